"""A trained network with all that is known of it in, one file out, and back; nothing in it is executed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from edge_asd.errors import EdgeAsdError
from edge_asd.types import FeatureSpec
from train.data.split import Split
from train.models import AnyNetwork, AnySpec, network_of, plain_from_spec, spec_from_plain
from train.network import Network
from train.whole_file import UnreadableError, load_plain, save_whole

CHECKPOINT_NAME = "checkpoint.pt"
_FORMAT = "edge_asd checkpoint"
_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A network in evaluation mode (EMA weights where it was trained here) and its history.

    classes: `TYPE/ID` in the order of the cosine outputs. training: the settings of the run; empty where unknown.
    """

    network: AnyNetwork
    spec: AnySpec
    classes: tuple[str, ...]
    feature_spec: FeatureSpec = field(default_factory=FeatureSpec)
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    split: Split = field(default_factory=Split)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint to a temporary file beside `path` and rename it into place.

    Raises:
        EdgeAsdError: the number of classes does not fit the network, or the file cannot be written.
    """
    if len(checkpoint.classes) != checkpoint.spec.n_classes:
        raise EdgeAsdError(
            f"{len(checkpoint.classes)} class names for a network of {checkpoint.spec.n_classes} classes; "
            "expected one name a class, in the order of its outputs"
        )
    content = {
        "format": _FORMAT,
        "schema": _SCHEMA,
        "spec": plain_from_spec(checkpoint.spec),
        "feature_spec": dataclasses.asdict(checkpoint.feature_spec),
        "classes": list(checkpoint.classes),
        "training": dict(checkpoint.training),
        "metrics": dict(checkpoint.metrics),
        "split": {side: list(files) for side, files in dataclasses.asdict(checkpoint.split).items()},
        "state": {name: value.detach().cpu() for name, value in checkpoint.network.state_dict().items()},
    }
    save_whole(path, content)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint from its file or from the folder of its run.

    Raises:
        EdgeAsdError: there is none, it is not one of ours, or weights are missing or extra.
    """
    file = path / CHECKPOINT_NAME if path.is_dir() else path
    if not file.is_file():
        raise EdgeAsdError(
            f"{file}: no checkpoint there; expected the file or run folder that python -m train.fit wrote"
        )
    try:
        content = load_plain(file)
    except UnreadableError as error:
        raise EdgeAsdError(
            f"{file}: not a readable checkpoint: {error}; expected the file or run folder that python -m train.fit "
            "wrote"
        ) from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise EdgeAsdError(
            f"{file}: not a checkpoint of this project; "
            "python -m train.import_checkpoint turns a published checkpoint into one"
        )
    if content.get("schema") != _SCHEMA:
        raise EdgeAsdError(f"{file}: checkpoint schema {content.get('schema')}; this version reads {_SCHEMA}")
    try:
        spec = spec_from_plain(content["spec"])
        feature_spec = FeatureSpec(**content["feature_spec"])
        split = Split(**{side: tuple(files) for side, files in content["split"].items()})
        classes, training, metrics = tuple(content["classes"]), dict(content["training"]), dict(content["metrics"])
        state = dict(content["state"])
        network = network_of(spec, feature_spec)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise EdgeAsdError(
            f"{file}: the checkpoint's description is incomplete or foreign: {error!r}; train it anew"
        ) from error
    if len(classes) != spec.n_classes or not all(isinstance(name, str) for name in classes):
        raise EdgeAsdError(
            f"{file}: {len(classes)} class names for a network of {spec.n_classes} classes; expected one name a class; "
            "train it anew"
        )
    foreign = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if foreign:
        raise EdgeAsdError(f"{file}: {foreign[0]} among its weights is no tensor; expected tensors; train it anew")
    load_state(network, state, source=str(file))
    return Checkpoint(
        network=network.eval(),
        spec=spec,
        classes=classes,
        feature_spec=feature_spec,
        training=training,
        metrics=metrics,
        split=split,
    )


def network_for_device(checkpoint: Checkpoint) -> Network:
    """The checkpoint's network, if it is of the kind that a device runs.

    Raises:
        EdgeAsdError: it is a baseline.
    """
    if not isinstance(checkpoint.network, Network):
        raise EdgeAsdError(
            f"the checkpoint holds a {type(checkpoint.network).__name__} (preset "
            f"{checkpoint.training.get('preset', 'unknown')}), a baseline to compare with; a device runs networks with "
            "margin; train one, as with --preset tfstgram-os-scl or logmel-os-scl"
        )
    return checkpoint.network


def load_state(network: AnyNetwork, state: Mapping[str, Tensor], *, source: str) -> None:
    """Load weights and buffers into the network, all of them or none.

    source: where they came from, for the message.

    Raises:
        EdgeAsdError: names that are missing or extra, or shapes that do not fit.
    """
    expected = network.state_dict()
    missing = sorted(expected.keys() - state.keys())
    extra = sorted(state.keys() - expected.keys())
    misfits = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & state.keys())
        if state[name].shape != expected[name].shape
    ]
    faults = [
        f"{what}: {', '.join(names)}"
        for what, names in (("missing", missing), ("extra", extra), ("of another shape", misfits))
        if names
    ]
    if faults:
        raise EdgeAsdError(f"{source}: weights do not fit the network of its description; {'; '.join(faults)}")
    network.load_state_dict(dict(state))

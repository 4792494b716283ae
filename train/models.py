"""What a network is made of in, the network out, and back, for every kind that is trained here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from edge_asd.types import FeatureSpec
from train.baselines import ChunkClassifier, ChunkSpec, FrameNetwork, FrameSpec
from train.network import Branch, Network, NetworkSpec
from train.settings import TrainingSettings

AnySpec: TypeAlias = NetworkSpec | FrameSpec | ChunkSpec
AnyNetwork: TypeAlias = Network | FrameNetwork | ChunkClassifier

_KINDS: Mapping[str, type[NetworkSpec] | type[FrameSpec] | type[ChunkSpec]] = {
    "margin": NetworkSpec,
    "frames": FrameSpec,
    "chunks": ChunkSpec,
}


def spec_for(settings: TrainingSettings, classes: Sequence[str]) -> AnySpec:
    """The network that the settings name, for these classes."""
    if settings.model == "margin":
        return settings.network_spec(len(classes))
    if settings.model == "mobilenetv2":
        return ChunkSpec(n_classes=len(classes))
    types = [name.rsplit("/", 1)[0] for name in classes]
    known = sorted(set(types))
    return FrameSpec(
        predicts="all" if settings.model == "ae" else "middle",
        type_of_class=tuple(known.index(machine_type) for machine_type in types),
    )


def branches_of(spec: AnySpec) -> tuple[Branch, ...]:
    """What a network hears its windows by; a baseline by the log-mel alone."""
    return spec.branches if isinstance(spec, NetworkSpec) else ("log_mel",)


def network_of(spec: AnySpec, feature_spec: FeatureSpec | None = None) -> AnyNetwork:
    """A network with weights by chance."""
    if isinstance(spec, NetworkSpec):
        return Network(spec, feature_spec)
    return FrameNetwork(spec, feature_spec) if isinstance(spec, FrameSpec) else ChunkClassifier(spec)


def plain_from_spec(spec: AnySpec) -> dict[str, Any]:
    """Fields for a file, and the kind."""
    kind = next(name for name, spec_type in _KINDS.items() if isinstance(spec, spec_type))
    fields = {
        name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(spec).items()
    }
    return {"kind": kind, **fields}


def spec_from_plain(fields: Mapping[str, Any]) -> AnySpec:
    """What `plain_from_spec` wrote; without a kind it is a network with margin, as in files of earlier versions.

    Raises:
        KeyError, TypeError: it is foreign or incomplete.
    """
    kind = fields.get("kind", "margin")
    spec_type: Callable[..., AnySpec] = _KINDS[kind]
    return spec_type(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items() if name != "kind"}
    )

"""A published checkpoint (.pth) or golden file (.npz) in, this project's weights by an explicit name map out."""

from __future__ import annotations

import argparse
import math
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edge_asd.errors import EdgeAsdError, UsageError
from train.checkpoint import Checkpoint, load_state, network_for_device, save_checkpoint
from train.network import HEAD_ACTIVATIONS, TFSTGRAM, Branch, Network, NetworkSpec
from train.whole_file import UnreadableError, load_plain

# Published checkpoints carry them under TFgramNet.; no forward uses them.
_UNUSED_TFGRAM_PARTS = (
    "pre_block4",
    "bn0",
    "conv_block1",
    "conv_block2",
    "conv_block3",
    "conv_block4",
    "conv_block5",
    "conv_block6",
    "fc1",
    "fc_audioset",
    "spec_augmenter",
)
_NORM_ENTRIES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_COUNTER = "num_batches_tracked"


def published_names(branches: Sequence[Branch]) -> dict[str, str]:
    """Map every name of a published checkpoint to ours, for a network of these branches.

    Counters of batch norms are in the map; some files leave them out.
    """
    names = {"arcface.weight": "class_weight"}
    if "tgram" in branches:
        names["tgramnet.conv_extrctor.weight"] = "tgram.extractor.weight"  # spelt as published
        for layer in range(3):
            for entry in ("0.weight", "0.bias", "2.weight"):
                names[f"tgramnet.conv_encoder.{layer}.{entry}"] = f"tgram.encoder.{layer}.{entry}"
    if "tfgram" in branches:
        names["TFgramNet.pre_conv0.weight"] = "tfgram.stem.weight"
        names |= _norm("TFgramNet.pre_bn0", "tfgram.norm")
        for block in (1, 2, 3):
            for half in (1, 2):
                theirs, ours = f"TFgramNet.pre_block{block}", f"tfgram.block{block}"
                names[f"{theirs}.conv{half}.weight"] = f"{ours}.conv{half}.weight"
                names |= _norm(f"{theirs}.bn{half}", f"{ours}.norm{half}")
    layers = {
        "conv1": "stem",
        "dw_conv1": "stem_depthwise",
        "conv2": "widen",
        "linear7": "pool",
        "linear1": "narrow",
    }
    for theirs, ours in layers.items():
        names[f"mobilefacenet.{theirs}.conv.weight"] = f"backbone.{ours}.conv.weight"
        names |= _norm(f"mobilefacenet.{theirs}.bn", f"backbone.{ours}.norm")
        if theirs not in ("linear7", "linear1"):
            names[f"mobilefacenet.{theirs}.prelu.weight"] = f"backbone.{ours}.activation.weight"
    for block in range(6):
        for first, part in ((0, "widen"), (3, "depthwise"), (6, "narrow")):
            theirs, ours = f"mobilefacenet.blocks.{block}.conv", f"backbone.blocks.{block}.{part}"
            names[f"{theirs}.{first}.weight"] = f"{ours}.conv.weight"
            names |= _norm(f"{theirs}.{first + 1}", f"{ours}.norm")
            if part != "narrow":
                names[f"{theirs}.{first + 2}.weight"] = f"{ours}.activation.weight"
    for entry in ("weight", "bias"):
        names[f"mobilefacenet.fc_out.{entry}"] = f"backbone.unused_classifier.{entry}"
        names[f"head.head.0.{entry}"] = f"head.squeeze.{entry}"
        names[f"head.head.3.{entry}"] = f"head.restore.{entry}"
    return names | _norm("head.head.2", "head.squeeze_norm") | _norm("head.head.5", "head.restore_norm")


def _norm(theirs: str, ours: str) -> dict[str, str]:
    return {f"{theirs}.{entry}": f"{ours}.{entry}" for entry in _NORM_ENTRIES}


def import_state(state: Mapping[str, Tensor], spec: NetworkSpec, *, source: str) -> Network:
    """Build the network of `spec` in evaluation mode from weights under their published names.

    Weights that no forward uses (those that published files carry under TFgramNet.) are dropped.

    Raises:
        EdgeAsdError: weights are missing, extra or of another shape; named as published.
    """
    names = published_names(spec.branches)
    needed = {name for name in names if not name.endswith(_COUNTER)}
    kept = {name: value for name, value in state.items() if not _is_unused(name)}
    missing = sorted(needed - kept.keys())
    extra = sorted(kept.keys() - names.keys())
    if missing or extra:
        found = [f"{what}: {', '.join(listed)}" for what, listed in (("missing", missing), ("extra", extra)) if listed]
        raise EdgeAsdError(
            f"{source}: weights do not fit a network of {'+'.join(spec.branches)}; {'; '.join(found)}; "
            "expected a published checkpoint of that configuration"
        )
    network = Network(spec)
    counters = {name: value for name, value in network.state_dict().items() if name.endswith(_COUNTER)}
    load_state(network, counters | {names[name]: value for name, value in kept.items()}, source=source)
    return network.eval()


def _is_unused(name: str) -> bool:
    network, _, part = name.partition(".")
    return network == "TFgramNet" and part.split(".")[0] in _UNUSED_TFGRAM_PARTS


def branches_of(state: Mapping[str, Any]) -> tuple[Branch, ...]:
    """The branches that weights under their published names are for."""
    prefix_of = {"tgram": "tgramnet.", "tfgram": "TFgramNet."}
    return tuple(
        branch
        for branch in TFSTGRAM
        if branch == "log_mel" or any(name.startswith(prefix_of[branch]) for name in state)
    )


def spec_of(
    state: Mapping[str, Tensor], *, source: str, head_activation: str, margin: float, scale: float
) -> NetworkSpec:
    """Derive what the weights' shapes tell of the network; the rest is given.

    Raises:
        EdgeAsdError: the two weights that tell it are missing, or a value cannot be.
    """
    for name in ("arcface.weight", "head.head.0.weight"):
        if name not in state or state[name].ndim != 2:
            raise EdgeAsdError(
                f"{source}: no matrix {name} in it; expected a published checkpoint with ArcFace and head"
            )
    for activation in HEAD_ACTIVATIONS:
        if activation == head_activation:
            return NetworkSpec(
                branches=branches_of(state),
                head_reduction=len(state["head.head.0.weight"]),
                head_activation=activation,
                n_classes=len(state["arcface.weight"]),
                margin=margin,
                scale=scale,
            )
    raise EdgeAsdError(
        f"{source}: head_activation is {head_activation!r}; expected one of {', '.join(HEAD_ACTIVATIONS)}"
    )


def read_npz(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Read an .npz without unpickling anything.

    Raises:
        EdgeAsdError: it is not there or not a readable .npz.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (OSError, ValueError, TypeError, zipfile.BadZipFile, EOFError, AttributeError) as error:  # .npy: TypeError
        raise EdgeAsdError(f"{path}: not a readable .npz: {error}; expected one with state/<name> entries") from error


def state_of_npz(content: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Tensor]:
    """Weights of the entries state/<name>."""
    prefix = "state/"
    return {
        name.removeprefix(prefix): torch.from_numpy(value) for name, value in content.items() if name.startswith(prefix)
    }


def read_pth(path: Path) -> dict[str, Tensor]:
    """Read a published checkpoint without executing anything in it: a state, or a dictionary that holds one.

    Raises:
        EdgeAsdError: it is not there, holds more than weights, or no state.
    """
    try:
        content = load_plain(path)
    except UnreadableError as error:
        raise EdgeAsdError(f"{path}: cannot be read as weights alone: {error}; expected a file of weights") from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise EdgeAsdError(
            f"{path}: holds no weights by name; expected a state as torch.save(model.state_dict()) writes"
        )
    return {name.removeprefix("module."): value for name, value in content.items()}  # left by DataParallel


def import_file(
    path: Path, *, classes: Sequence[str] | None, head_activation: str | None, margin: float | None, scale: float
) -> Checkpoint:
    """Read a .pth or .npz into a checkpoint; what the file states of itself counts where an argument is None.

    Raises:
        UsageError: its suffix, or the number of class names, does not fit.
        EdgeAsdError: it cannot be read or its weights do not fit.
    """
    stated: dict[str, Any] = {}
    if path.suffix == ".npz":
        content = read_npz(path)
        state = state_of_npz(content)
        stated = {name: content[name].item() for name in ("margin", "scale", "head_activation") if name in content}
    elif path.suffix in (".pth", ".pt"):
        state = read_pth(path)
    else:
        raise UsageError(f"{path}: suffix {path.suffix!r}; expected .pth, .pt or .npz")
    wave_branches = len(branches_of(state)) > 1
    spec = spec_of(
        state,
        source=str(path),
        head_activation=head_activation or stated.get("head_activation", "relu" if wave_branches else "leaky_relu"),
        margin=margin if margin is not None else stated.get("margin", 0.4 if wave_branches else 0.7),
        scale=stated.get("scale", scale),
    )
    names = tuple(classes) if classes else tuple(f"unknown/{index:02d}" for index in range(spec.n_classes))
    if len(names) != spec.n_classes:
        raise UsageError(
            f"{path}: {len(names)} class names given; expected {spec.n_classes}, in the order of its outputs"
        )
    network = import_state(state, spec, source=str(path))
    return Checkpoint(network=network, spec=spec, classes=names, training={"imported_from": path.name})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train.import_checkpoint",
        description="Turn a published TFSTgram or log-mel OS-SCL checkpoint into one of this project.",
        epilog="Weights that no forward uses are dropped; missing or extra ones are an error that names them.",
    )
    parser.add_argument("file", type=Path, help=".pth (weights alone, nothing is executed) or .npz (state/<name>)")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write")
    parser.add_argument("--classes", type=Path, help="text file with one TYPE/ID a line, in the order of the outputs")
    parser.add_argument("--head-activation", choices=HEAD_ACTIVATIONS, help="default: relu, log-mel alone leaky_relu")
    parser.add_argument("--margin", type=float, help="default: 0.4, log-mel alone 0.7")
    parser.add_argument("--scale", type=float, default=30.0, help="default: 30")
    options = parser.parse_args(arguments)
    try:
        if options.margin is not None and not 0.0 <= options.margin < math.pi:
            raise UsageError(f"--margin is {options.margin}; expected 0 or more and below pi")
        checkpoint = import_file(
            options.file,
            classes=_read_classes(options.classes),
            head_activation=options.head_activation,
            margin=options.margin,
            scale=options.scale,
        )
        save_checkpoint(options.out, checkpoint)
    except EdgeAsdError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    network = network_for_device(checkpoint)
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"{options.out}: {'+'.join(network.spec.branches)}, {n_parameters:,} parameters", file=sys.stderr)
    return 0


def _read_classes(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as a list of classes: {error}") from error


if __name__ == "__main__":
    sys.exit(main())

"""A golden file in, the largest error of every stage against this project's own on the terminal out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documents use
from torch import Tensor

from edge_asd.errors import EdgeAsdError
from edge_asd.features import log_mel_db
from edge_asd.score import MarginScorer
from edge_asd.types import FeatureSpec
from train.features import LogMel
from train.import_checkpoint import import_state, read_npz, spec_of, state_of_npz
from train.losses import margin_logits, noisy_arcmix, noisy_supcon

TOLERANCES = {
    "log_mel": 1e-3,
    "log_mel (device)": 1e-3,
    "tgram": 1e-4,
    "tfgram": 1e-4,
    "backbone_feature": 1e-4,
    "embedding": 1e-4,
    "cosine": 1e-4,
    "margin_logits": 1e-3,
    "score": 1e-3,
    "z (device)": 1e-3,
    "noisy_arcmix": 1e-5,
    "noisy_supcon": 1e-5,
    "total": 1e-5,
    "grad_raw_embedding": 1e-5,
    "grad_class_weight": 1e-5,
}
"""Largest error allowed a stage: absolute, dB for log_mel; of gradients as a share of the largest if over 1."""

_NEEDED = ("wave", "label", "log_mel", "backbone_feature", "embedding", "cosine", "margin_logits", "score")
_NEEDED_OF_LOSSES = (
    *("raw_embedding", "class_weight", "label_a", "label_b", "lam", "margin", "scale", "temperature"),
    *("base_temperature", "noisy_arcmix", "noisy_supcon", "total", "grad_raw_embedding", "grad_class_weight"),
)
_CONFIGURATION = ("margin", "scale", "branches", "head_activation")


Golden: TypeAlias = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageError:
    """Largest error of a stage as TOLERANCES has it, NaN where a value is."""

    stage: str
    largest: float
    tolerance: float

    @property
    def passes(self) -> bool:
        """Within the tolerance; NaN is not."""
        return self.largest <= self.tolerance


def verify(path: Path) -> tuple[StageError, ...]:
    """Run what a golden file holds values of: all stages of a network, each on the stage before it, or the losses.

    Raises:
        EdgeAsdError: the file is unreadable, incomplete, or its state does not fit its configuration.
    """
    golden = read_npz(path)
    return _verify_losses(path, golden) if "raw_embedding" in golden else _verify_network(path, golden)


def _check_complete(path: Path, golden: Golden, needed: Sequence[str]) -> None:
    absent = [name for name in needed if name not in golden]
    if absent:
        raise EdgeAsdError(f"{path}: {', '.join(absent)} not in it; expected a golden file with every stage")


def _floats(
    path: Path, golden: Golden, name: str, shape: Sequence[int | None], dtype: torch.dtype = torch.float32
) -> Tensor:
    """An array of any floats; None in the shape is any length but 0."""
    array = golden[name]
    fits = array.ndim == len(shape) and all(
        found == wanted if wanted is not None else found > 0 for found, wanted in zip(array.shape, shape, strict=True)
    )
    if array.dtype.kind != "f" or not fits:
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise EdgeAsdError(f"{path}: {name} is {array.dtype} of shape {array.shape}; expected floats of ({wanted})")
    return torch.from_numpy(array).to(dtype)


def _labels(path: Path, golden: Golden, name: str, *, n: int, n_classes: int) -> Tensor:
    """Class indices of any integers, (n,) int64."""
    array = golden[name]
    if array.dtype.kind not in "iu" or array.shape != (n,) or not ((array >= 0) & (array < n_classes)).all():
        raise EdgeAsdError(
            f"{path}: {name} is {array.dtype} of shape {array.shape}; expected {n} class indices from 0 to "
            f"{n_classes - 1}"
        )
    return torch.from_numpy(array.astype(np.int64))


def _number(path: Path, golden: Golden, name: str) -> float:
    array = golden[name]
    if array.dtype.kind not in "fiu" or array.size != 1:
        raise EdgeAsdError(f"{path}: {name} is {array.dtype} of shape {array.shape}; expected one number")
    return float(array.item())


def _verify_losses(path: Path, golden: Golden) -> tuple[StageError, ...]:
    _check_complete(path, golden, _NEEDED_OF_LOSSES)
    dtype = torch.float64 if golden["raw_embedding"].dtype == np.float64 else torch.float32
    raw = _floats(path, golden, "raw_embedding", (None, None), dtype).requires_grad_()  # (B, 128)
    weight = _floats(path, golden, "class_weight", (None, raw.shape[1]), dtype).requires_grad_()  # (classes, 128)
    label_a, label_b = (
        _labels(path, golden, name, n=len(raw), n_classes=len(weight)) for name in ("label_a", "label_b")
    )
    lam, margin, scale, temperature, base_temperature = (
        _number(path, golden, name) for name in ("lam", "margin", "scale", "temperature", "base_temperature")
    )
    embedding = F.normalize(raw)
    arcmix = noisy_arcmix(
        F.linear(embedding, F.normalize(weight)),
        label_a,
        label_b,
        lam,
        margin=margin,
        scale=scale,
    )
    supcon = noisy_supcon(embedding, label_a, temperature=temperature, base_temperature=base_temperature)
    total = arcmix + supcon
    grad_raw, grad_weight = torch.autograd.grad(total, (raw, weight))
    outcome = {
        name: value.detach().numpy()
        for name, value in (("noisy_arcmix", arcmix), ("noisy_supcon", supcon), ("total", total))
    }
    expected: dict[str, Any] = {name: golden[name] for name in outcome}
    for name, gradient in (("grad_raw_embedding", grad_raw), ("grad_class_weight", grad_weight)):
        unit = max(1.0, float(np.abs(golden[name]).max()))
        outcome[name], expected[name] = gradient.numpy() / unit, golden[name] / unit
    return tuple(_compare(stage, outcome, expected) for stage in outcome)


def _verify_network(path: Path, golden: Golden) -> tuple[StageError, ...]:
    _check_complete(path, golden, (*_NEEDED, *_CONFIGURATION))
    state = state_of_npz(golden)
    spec = spec_of(
        state,
        source=str(path),
        head_activation=str(golden["head_activation"]),
        margin=_number(path, golden, "margin"),
        scale=_number(path, golden, "scale"),
    )
    if "+".join(spec.branches) != str(golden["branches"]):
        raise EdgeAsdError(f"{path}: branches are {golden['branches']}, but its state is of {'+'.join(spec.branches)}")
    network = import_state(state, spec, source=str(path))
    wave = _floats(path, golden, "wave", (None, FeatureSpec().window_samples))
    label = _labels(path, golden, "label", n=len(wave), n_classes=spec.n_classes)
    found: dict[str, Tensor] = {}
    with torch.inference_mode():
        found["log_mel"] = LogMel()(wave)
        if network.tgram is not None:
            found["tgram"] = network.tgram(wave)
        if network.tfgram is not None:
            found["tfgram"] = network.tfgram(wave)
        found["backbone_feature"] = network.backbone(network.branch_image(wave, found["log_mel"]))
        found["embedding"], found["cosine"] = network(wave, found["log_mel"])
        found["margin_logits"] = margin_logits(found["cosine"], label, margin=spec.margin, scale=spec.scale)
        found["score"] = F.cross_entropy(found["margin_logits"], label, reduction="none")
    expected = {name: golden[name] for name in found if name in golden}
    if expected.keys() != found.keys():
        raise EdgeAsdError(f"{path}: {', '.join(found.keys() - expected.keys())} not in it; expected every stage")
    outcome = {name: value.numpy() for name, value in found.items()}
    # What the device computes in numpy.
    outcome["log_mel (device)"], expected["log_mel (device)"] = log_mel_db(wave.numpy()), golden["log_mel"]
    scorer = MarginScorer(spec.scale, spec.margin, n_classes=spec.n_classes)
    outcome["z (device)"] = scorer.score(outcome["cosine"], label.numpy())
    expected["z (device)"] = _z(golden["margin_logits"], label.numpy())
    return tuple(_compare(stage, outcome, expected) for stage in TOLERANCES if stage in outcome)


def _z(logits: np.ndarray[Any, Any], label: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    own = np.take_along_axis(logits, label[:, None], axis=1).astype(np.float64)
    others = logits.astype(np.float64)
    np.put_along_axis(others, label[:, None], -np.inf, axis=1)
    scores: np.ndarray[Any, Any] = np.logaddexp.reduce(others, axis=1) - own[:, 0]
    return scores


def _compare(stage: str, outcome: Mapping[str, Any], expected: Mapping[str, Any]) -> StageError:
    if outcome[stage].shape != expected[stage].shape:
        raise EdgeAsdError(f"golden {stage} has shape {expected[stage].shape}; expected {outcome[stage].shape}")
    largest = float(np.max(np.abs(outcome[stage].astype(np.float64) - expected[stage])))
    return StageError(stage=stage, largest=largest, tolerance=TOLERANCES[stage])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 0 when every stage agrees, 1 when one does not."""
    parser = argparse.ArgumentParser(
        prog="python -m train.verify",
        description="Run every stage of a network, or the losses, on a golden file's inputs; print the largest errors.",
        epilog="Exit code 1 when a stage is above its tolerance.",
    )
    parser.add_argument(
        "golden", type=Path, help=".npz with the values of a network's stages, or of losses and gradients"
    )
    options = parser.parse_args(arguments)
    try:
        stages = verify(options.golden)
    except EdgeAsdError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for stage in stages:
        verdict = "ok" if stage.passes else "TOO LARGE"
        print(f"{stage.stage:18} {stage.largest:9.2e}  at most {stage.tolerance:.0e}  {verdict}")
    return 0 if all(stage.passes for stage in stages) else 1


if __name__ == "__main__":
    sys.exit(main())

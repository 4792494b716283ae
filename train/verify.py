"""A golden file in, the largest error of every stage against this project's own on the terminal out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edge_asd.errors import EdgeAsdError
from edge_asd.features import log_mel_db
from edge_asd.score import MarginScorer
from train.features import LogMel
from train.import_checkpoint import import_state, read_npz, spec_of, state_of_npz
from train.losses import margin_logits

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
}
"""Largest absolute error allowed a stage; dB for log_mel."""

_NEEDED = ("wave", "label", "log_mel", "backbone_feature", "embedding", "cosine", "margin_logits", "score")
_CONFIGURATION = ("margin", "scale", "branches", "head_activation")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageError:
    """Largest absolute error of a stage, NaN where a value is."""

    stage: str
    largest: float
    tolerance: float

    @property
    def passes(self) -> bool:
        """Within the tolerance; NaN is not."""
        return self.largest <= self.tolerance


def verify(path: Path) -> tuple[StageError, ...]:
    """Run every stage of the configuration that a golden file names, each on the stage before it.

    Raises:
        EdgeAsdError: the file is unreadable, incomplete, or its state does not fit its configuration.
    """
    golden = read_npz(path)
    absent = [name for name in (*_NEEDED, *_CONFIGURATION) if name not in golden]
    if absent:
        raise EdgeAsdError(f"{path}: {', '.join(absent)} not in it; expected a golden file with every stage")
    state = state_of_npz(golden)
    spec = spec_of(
        state,
        source=str(path),
        head_activation=str(golden["head_activation"]),
        margin=float(golden["margin"]),
        scale=float(golden["scale"]),
    )
    if "+".join(spec.branches) != str(golden["branches"]):
        raise EdgeAsdError(f"{path}: branches are {golden['branches']}, but its state is of {'+'.join(spec.branches)}")
    network = import_state(state, spec, source=str(path))
    wave, label = torch.from_numpy(golden["wave"]), torch.from_numpy(golden["label"])
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
        found["score"] = torch.nn.functional.cross_entropy(found["margin_logits"], label, reduction="none")
    expected = {name: golden[name] for name in found if name in golden}
    if expected.keys() != found.keys():
        raise EdgeAsdError(f"{path}: {', '.join(found.keys() - expected.keys())} not in it; expected every stage")
    outcome = {name: value.numpy() for name, value in found.items()}
    # What the device computes in numpy.
    outcome["log_mel (device)"], expected["log_mel (device)"] = log_mel_db(golden["wave"]), golden["log_mel"]
    scorer = MarginScorer(spec.scale, spec.margin, n_classes=spec.n_classes)
    outcome["z (device)"] = scorer.score(outcome["cosine"], golden["label"])
    expected["z (device)"] = _z(golden["margin_logits"], golden["label"])
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
        description="Run every stage on a golden file's waves and weights and print the largest error of each.",
        epilog="Exit code 1 when a stage is above its tolerance.",
    )
    parser.add_argument("golden", type=Path, help=".npz with waves, state/<name> and the values of every stage")
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

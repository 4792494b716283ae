"""A data folder in, how well the nearest neighbour on log-mel tells its damaged clips out: by fault, ID and type."""

from __future__ import annotations

import argparse
import csv
import hashlib
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from edge_asd.capture.clips import read_clip
from edge_asd.errors import EdgeAsdError, UsageError
from edge_asd.features import log_mel_db
from edge_asd.types import FeatureSpec
from train.data import load_recordings
from train.data.table import TABLE_NAME
from train.environment import write_figures
from train.evaluation.roc import roc_areas


@dataclass(frozen=True, slots=True, kw_only=True)
class Areas:
    """AUC of each ID (`TYPE/ID`), the mean over IDs of each type, and of each fault within a type; 0..1."""

    by_id: dict[str, float]
    by_type: dict[str, float]
    by_fault: dict[tuple[str, str], float]

    @property
    def average(self) -> float:
        """Mean over types."""
        return float(np.mean(list(self.by_type.values())))

    def as_plain(self) -> dict[str, Any]:
        """Every area by its name, for files."""
        return {
            "average_auc": self.average,
            "by_type": {
                machine_type: {
                    "auc": area,
                    "by_fault": {fault: value for (of, fault), value in self.by_fault.items() if of == machine_type},
                    "by_id": {name: value for name, value in self.by_id.items() if name.startswith(f"{machine_type}/")},
                }
                for machine_type, area in self.by_type.items()
            },
        }


def clip_features(wave: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean and standard deviation over time of each band of the first 10 s, (256,), in dB."""
    log_mel = log_mel_db(wave[: FeatureSpec().window_samples]).astype(np.float64)
    return np.concatenate([log_mel.mean(axis=1), log_mel.std(axis=1)])


def nearest_distances(memory: NDArray[np.float64], clips: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean distance of each clip to the nearest of the memory, (n,)."""
    nearest: NDArray[np.float64] = cdist(clips, memory).min(axis=1)
    return nearest


def check_folder(folder: Path) -> Areas:
    """Score the test clips of each ID by the nearest of its training clips.

    Raises:
        UsageError: the folder cannot be listed, or was not generated.
        ClipError: a clip cannot be used.
    """
    recordings = load_recordings(folder)
    try:
        with (folder / TABLE_NAME).open(newline="", encoding="utf-8") as file:
            faults = {row["file"]: row["fault"] for row in csv.DictReader(file)}
    except (OSError, KeyError) as error:
        raise UsageError(
            f"{folder / TABLE_NAME}: no faults there ({error!r}); expected what python -m train.synth wrote"
        ) from error
    memories: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    tests: dict[str, list[tuple[str, NDArray[np.float64]]]] = defaultdict(list)
    for recording in recordings:
        features = clip_features(read_clip(folder / recording.file))
        if recording.stated_split == "train":
            memories[recording.class_name].append(features)
        else:
            tests[recording.class_name].append((faults[recording.file], features))
    by_id: dict[str, float] = {}
    of_types: dict[str, list[float]] = defaultdict(list)
    of_faults: dict[tuple[str, str], list[float]] = defaultdict(list)
    for name, clips in tests.items():
        machine_type = name.rsplit("/", 1)[0]
        clip_faults = np.array([fault for fault, _ in clips])
        n_damaged = int(np.count_nonzero(clip_faults != "none"))
        if not memories[name] or n_damaged in (0, len(clips)):
            raise UsageError(
                f"{folder}: {name} has {len(memories[name])} training clips, {len(clips) - n_damaged} healthy and "
                f"{n_damaged} damaged test clips; expected some of each; generate it again"
            )
        distances = nearest_distances(np.array(memories[name]), np.array([features for _, features in clips]))
        by_id[name] = float(roc_areas(distances, clip_faults != "none")[0][0])
        of_types[machine_type].append(by_id[name])
        for fault in sorted(set(clip_faults) - {"none"}):
            chosen = (clip_faults == "none") | (clip_faults == fault)
            area = float(roc_areas(distances[chosen], clip_faults[chosen] == fault)[0][0])
            of_faults[machine_type, fault].append(area)
    return Areas(
        by_id=by_id,
        by_type={name: float(np.mean(areas)) for name, areas in of_types.items()},
        by_fault={key: float(np.mean(areas)) for key, areas in of_faults.items()},
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train.synth.check",
        description="AUC of the nearest training clip by mean and deviation of log-mel over time, on generated sound.",
    )
    parser.add_argument("data", type=Path, help="folder that python -m train.synth wrote")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, with the environment, too")
    options = parser.parse_args(arguments)
    try:
        areas = check_folder(options.data)
        if options.json is not None:
            # The table tells each clip's severity, speed, load and noise: one seed and version of the generator has it.
            table_sha256 = hashlib.sha256((options.data / TABLE_NAME).read_bytes()).hexdigest()
            figures = {"sound": "generated", "table_sha256": table_sha256, **areas.as_plain()}
            write_figures(options.json, "train.synth.check", figures)
    except EdgeAsdError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for (machine_type, fault), area in sorted(areas.by_fault.items()):
        print(f"{machine_type:12} {fault:16} {area:.3f}")
    for machine_type, area in areas.by_type.items():
        ids = " ".join(f"{value:.2f}" for name, value in areas.by_id.items() if name.startswith(f"{machine_type}/"))
        print(f"{machine_type:12} {'all faults':16} {area:.3f}   by ID: {ids}")
    print(f"average over types            {areas.average:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

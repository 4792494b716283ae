"""A trial in, the clean machine clips and the noise of its training side in folders for train.retain out."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import soundfile

from benchmarks.noise_robustness.mixing import LEVEL_DBFS
from benchmarks.noise_robustness.noise import NOISE_KINDS
from benchmarks.noise_robustness.sound import MachineClip
from benchmarks.noise_robustness.trial import Trial, first_group_of_each
from edge_asd.capture.clips import read_clip
from edge_asd.types import FeatureSpec
from train.data.table import TABLE_NAME
from train.synth.levels import at_rms

CLEAN_DBFS = LEVEL_DBFS - 3.0
"""Of clean machine clips: with noise at 0 dB the mixture is as loud as those of the trial."""


def write_corpus(trial: Trial) -> tuple[Path, Path]:
    """Write machines and noise once, and keep them in the trial's work folder.

    The machines are those that the trial's networks are trained on, without noise; the noise is the training side's, of
    both kinds.

    Raises:
        ClipError: a clip cannot be used.
    """
    machines, noise = trial.work / "clean", trial.work / "noise-clips"
    if not (machines / TABLE_NAME).is_file():
        _write_machines(trial, machines)
    if not (noise / TABLE_NAME).is_file():
        _write_noise(trial, noise)
    return machines, noise


def _write_machines(trial: Trial, folder: Path) -> None:
    validation, train = first_group_of_each(trial.sides.further)
    sides = {"train": (*trial.sides.train, *train), "validation": (*trial.sides.validation, *validation)}
    rows = [
        _write_machine(folder, f"clean-{side}-{number:05}.wav", side, clip)
        for side, clips in sides.items()
        for number, clip in enumerate(clips)
    ]
    _write_table(folder, ["file", "machine_type", "machine_id", "label", "split", "group"], rows)


def _write_machine(folder: Path, name: str, side: str, clip: MachineClip) -> list[str]:
    wave = read_clip(clip.path).astype("float64")
    folder.mkdir(parents=True, exist_ok=True)
    level = at_rms(wave - wave.mean(), 10.0 ** (CLEAN_DBFS / 20.0))
    soundfile.write(folder / name, level, FeatureSpec().sample_rate_hz, subtype="FLOAT")
    return [name, *clip.class_name.rsplit("/", 1), "normal", side, clip.group]


def _write_noise(trial: Trial, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows: list[list[str]] = []
    for kind in NOISE_KINDS:
        for clip in trial.sides.train_noise[kind]:
            name = f"{len(rows):05}{clip.path.suffix}"
            (folder / name).symlink_to(clip.path.resolve())
            rows.append([name, clip.tag, clip.group])
    _write_table(folder, ["file", "tag", "group"], rows)


def _write_table(folder: Path, columns: list[str], rows: list[list[str]]) -> None:
    """Write the table last: with it the folder is whole."""
    temporary = folder / f".{TABLE_NAME}.tmp"
    with temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    temporary.replace(folder / TABLE_NAME)

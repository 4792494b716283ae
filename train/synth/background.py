"""A folder of recorded noise, or none, in; the background of each clip out."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from edge_asd.capture.clips import check_clip, find_clips, read_clip
from edge_asd.errors import ClipError, UsageError
from train.data.table import TABLE_NAME
from train.synth.flow import rumble
from train.synth.levels import at_rms, gain_from_db, rms
from train.synth.machine import Wave
from train.synth.plan import Split
from train.synth.shaft import wander

_TRAIN_SHARE = 0.7
_SILENT = 1e-5


class Background(Protocol):
    """Where noise comes from."""

    def draw(self, rng: np.random.Generator, n_samples: int, split: Split) -> tuple[Wave, str]:
        """Noise of RMS 1 (n_samples,), and the name of the recording it was cut from ("generated" if none)."""
        ...


class GeneratedBackground:
    """Rumble of a hall: its colour differs from clip to clip, its level wanders by some dB."""

    def draw(self, rng: np.random.Generator, n_samples: int, split: Split) -> tuple[Wave, str]:  # noqa: ARG002 - of Background
        """Draw as Background says."""
        noise = rumble(rng, n_samples, slope=float(rng.uniform(1.0, 1.5)))
        return at_rms(noise * 10.0 ** (1.5 * wander(rng, n_samples, 1.0) / 20.0), 1.0), "generated"


class RecordedBackground:
    """Noise cut from recordings at random places; a recording serves training or testing, never both."""

    def __init__(self, folder: Path) -> None:
        """List the recordings of a folder; where it has a metadata.csv, clips of a group count as one recording.

        Raises:
            UsageError: there are fewer than two, or metadata.csv is not as expected.
            ClipError: one cannot be used.
        """
        groups = _groups(folder)
        if len(groups) < 2:
            raise UsageError(
                f"{folder}: {len(groups)} recording of noise; expected two or more, as none serves training and test"
            )
        for clip in (clip for clips in groups.values() for clip in clips):
            check_clip(clip)
        self._folder = folder
        shuffled = sorted(groups, key=lambda group: hashlib.sha256(group.encode()).digest())
        n_train = min(len(shuffled) - 1, max(1, round(_TRAIN_SHARE * len(shuffled))))
        sides: dict[Split, Sequence[str]] = {"train": shuffled[:n_train], "test": shuffled[n_train:]}
        self._clips = {split: [clip for group in names for clip in groups[group]] for split, names in sides.items()}

    def draw(self, rng: np.random.Generator, n_samples: int, split: Split) -> tuple[Wave, str]:
        """Draw as Background says; a recording that is too short repeats, a silent stretch is passed over.

        Raises:
            ClipError: a recording cannot be read, or all stretches drawn are silent.
        """
        clips = self._clips[split]
        for index in rng.permutation(len(clips)):
            recording = read_clip(clips[index])
            start = int(rng.integers(max(1, len(recording) - n_samples + 1)))
            noise = np.resize(recording[start:], n_samples).astype(np.float64)
            noise -= noise.mean()
            if rms(noise) > _SILENT:
                return at_rms(noise, 1.0), clips[index].relative_to(self._folder).as_posix()
        raise ClipError(f"{self._folder}: all {len(clips)} noise clips for {split} are silent; expected sound")


def _groups(folder: Path) -> dict[str, list[Path]]:
    """Clips by the recording that they are of."""
    groups: dict[str, list[Path]] = defaultdict(list)
    if (folder / TABLE_NAME).is_file():
        for file, group in _rows(folder / TABLE_NAME):
            groups[group].append(folder / file)
    else:
        for clip in find_clips([folder]):
            groups[clip.relative_to(folder).as_posix()].append(clip)
    return groups


def _rows(table: Path) -> list[tuple[str, str]]:
    """File and group of each clip in a table of noise; without a group the clip is one alone."""
    expected = "expected the column file, and group (clips of one recording) where known"
    try:
        with table.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened)
            if "file" not in (reader.fieldnames or ()):
                raise UsageError(f"{table}: column file is missing; {expected}")
            rows = [((row["file"] or "").strip(), (row.get("group") or "").strip()) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{table}: cannot be read ({error}); expected CSV in UTF-8; {expected}") from error
    if any(not file for file, _ in rows):
        raise UsageError(f"{table}: a line's file is empty; {expected}")
    return [(file, group or file) for file, group in rows]


def mix(rng: np.random.Generator, machine: Wave, noise: Wave, machine_rms: float, snr_db: float) -> Wave:
    """Add noise of RMS 1 to a machine: `snr_db` below the unit's usual level `machine_rms`, give or take 1 dB."""
    return machine + noise * machine_rms * gain_from_db(-(snr_db + float(rng.normal(0.0, 1.0))))

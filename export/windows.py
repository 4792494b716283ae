"""A folder of labelled clips in, the windows out that ranges, thresholds, parity and test figures are taken from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_asd.errors import UsageError
from edge_asd.features import log_mel_db
from edge_asd.types import FeatureSpec, FloatArray
from train.checkpoint import Checkpoint
from train.data import Recording, Waves, load_recordings, open_waves

# A damaged bearing or propeller easily sounds 30 dB louder than the healthy one did.
_LOUDER_DB = (10.0, 20.0, 30.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clips:
    """Which clips of the folder serve for what; only those of classes that the network knows.

    trained: healthy, fitted on; they and `calibration` give the INT8 ranges. calibration: healthy, not trained on; they
    alone give the thresholds. test_normal, test_anomaly: for the figures alone.
    """

    trained: tuple[Recording, ...]
    calibration: tuple[Recording, ...]
    test_normal: tuple[Recording, ...]
    test_anomaly: tuple[Recording, ...]

    @property
    def for_ranges(self) -> tuple[Recording, ...]:
        """Healthy clips that no figure is taken from."""
        return self.trained + self.calibration

    @property
    def for_test(self) -> tuple[Recording, ...]:
        """Clips that nothing is fitted on."""
        return self.test_normal + self.test_anomaly

    @property
    def everything(self) -> tuple[Recording, ...]:
        """All of them, each once."""
        return self.for_ranges + self.for_test


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Windows:
    """A batch of windows: wave (B, window_samples) and log_mel (B, n_mels, n_frames) float32, label (B,) int64."""

    wave: FloatArray
    log_mel: FloatArray
    label: NDArray[np.int64]


Reader: TypeAlias = Callable[[Sequence[Recording]], Iterator[Windows]]
"""`read_windows` of one data folder and network."""


def find_calibration_clips(folder: Path, checkpoint: Checkpoint) -> Clips:
    """Sort the clips of `folder` by the checkpoint's split, and by what the data states where it does not name them.

    Raises:
        UsageError: the folder is not as expected, or holds no healthy clip to fit thresholds on.
    """
    known = [recording for recording in load_recordings(folder) if recording.class_name in checkpoint.classes]
    trained, held_out = set(checkpoint.split.train), set(checkpoint.split.held_out)
    groups: dict[str, list[Recording]] = {"trained": [], "calibration": [], "test_normal": [], "test_anomaly": []}
    for recording in known:
        if recording.label == "anomaly":
            group = "test_anomaly"
        elif recording.file in trained:
            group = "trained"
        elif recording.file in held_out or recording.stated_split == "test":
            group = "test_normal"
        else:
            group = "calibration"
        groups[group].append(recording)
    if not groups["calibration"]:
        raise UsageError(
            f"{folder}: no healthy clip left to fit thresholds on: {len(groups['trained'])} were trained on, "
            f"{len(groups['test_normal'])} are held out for the test; expected healthy clips of "
            f"{', '.join(checkpoint.classes)} that the network was not trained on; add some"
        )
    return Clips(**{name: tuple(members) for name, members in groups.items()})


def read_windows(
    folder: Path, recordings: Sequence[Recording], *, classes: Sequence[str], spec: FeatureSpec, batch_size: int = 8
) -> Iterator[Windows]:
    """Yield one window a clip, its first, in batches: overlapping windows of one clip would not be independent.

    A clip that is shorter than a window is repeated to one, as in training.

    Raises:
        ClipError: a clip cannot be used.
    """
    for batch, waves in _opened(folder, recordings, batch_size):
        first = np.arange(len(batch))
        wave = waves.cut(first, np.zeros_like(first), spec.window_samples)  # (B, window_samples)
        yield Windows(
            wave=wave,
            log_mel=log_mel_db(wave, spec),
            label=np.array([classes.index(recording.class_name) for recording in batch], dtype=np.int64),
        )


def count_repeated(folder: Path, recordings: Sequence[Recording], spec: FeatureSpec) -> int:
    """How many of the clips are shorter than a window.

    Raises:
        ClipError: a clip cannot be used.
    """
    return sum(int(np.sum(waves.lengths < spec.window_samples)) for _, waves in _opened(folder, recordings))


def with_louder(batches: Iterable[Windows], spec: FeatureSpec) -> Iterator[Windows]:
    """Yield each batch as it is, then 10, 20 and 30 dB louder, each window as far as full scale allows.

    INT8 clips what lies beyond the ranges it was given, and faults are often louder than any healthy sound: with ranges
    of the healthy level alone, what it hears of them is wrong just when it matters.
    """
    for batch in batches:
        yield batch
        peak = np.abs(batch.wave).max(axis=1, keepdims=True)  # (B, 1)
        room_db = -20.0 * np.log10(np.clip(peak, 1e-6, 1.0))
        for louder_db in _LOUDER_DB:
            wave = (batch.wave * 10.0 ** (np.minimum(louder_db, room_db) / 20.0)).astype(np.float32)
            yield Windows(wave=wave, log_mel=log_mel_db(wave, spec), label=batch.label)


def _opened(
    folder: Path, recordings: Sequence[Recording], batch_size: int = 64
) -> Iterator[tuple[Sequence[Recording], Waves]]:
    """Recordings in batches, with their samples: no more of an unprepared folder lies in memory."""
    for start in range(0, len(recordings), batch_size):
        batch = recordings[start : start + batch_size]
        yield batch, open_waves(folder, [recording.file for recording in batch])

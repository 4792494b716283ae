"""Clips of a data folder in, their samples out: one after the other in one array, cut a whole batch at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from edge_asd.capture.clips import MAX_CLIP_S, read_clip, stream_clip
from edge_asd.errors import ClipError, UsageError
from edge_asd.types import FloatArray
from train.data.prepared import is_prepared, map_samples, places_of, read_index
from train.data.usable import check_usable

_Samples: TypeAlias = NDArray[np.float32] | NDArray[np.int16]

FULL_SCALE = 32_768.0
"""int16 samples are this times those in -1..1."""


class Waves(Sequence[FloatArray]):
    """Clips end to end: samples (total,) float32 or int16, and each clip's start and length (N,) int64.

    Indexed, it gives one clip as (n,) float32 in -1..1.
    """

    def __init__(self, samples: _Samples, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        self._samples = samples
        self._starts = starts
        self.lengths = lengths

    @classmethod
    def from_arrays(cls, waves: Sequence[FloatArray]) -> Waves:
        """Take clips (n,) float32."""
        lengths = np.array([len(wave) for wave in waves], dtype=np.int64)
        samples = np.concatenate(waves) if waves else np.zeros(0, dtype=np.float32)
        return cls(samples, np.cumsum(lengths) - lengths, lengths)

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> FloatArray: ...
    @overload
    def __getitem__(self, index: slice) -> Waves: ...
    def __getitem__(self, index: int | slice) -> FloatArray | Waves:
        if isinstance(index, slice):
            return self.subset(np.arange(len(self))[index])
        start = self._starts[index]
        return _in_full_scale(self._samples[start : start + self.lengths[index]])

    def __iter__(self) -> Iterator[FloatArray]:
        return (self[index] for index in range(len(self)))

    def subset(self, clips: NDArray[np.integer]) -> Waves:
        """Some of the clips, with the same samples underneath."""
        return Waves(self._samples, self._starts[clips], self.lengths[clips])

    def pieces(self, n_samples: int) -> tuple[Waves, NDArray[np.int64]]:
        """Cut every clip into pieces of n_samples end to end, the last one shorter, with the same samples underneath.

        Returns:
            the pieces, and the clip of each (pieces,).
        """
        counts = -(-self.lengths // n_samples)
        clips = np.repeat(np.arange(len(self), dtype=np.int64), counts)
        begins = n_samples * (np.arange(len(clips)) - np.repeat(np.cumsum(counts) - counts, counts))
        return Waves(
            self._samples, self._starts[clips] + begins, np.minimum(n_samples, self.lengths[clips] - begins)
        ), clips

    def cut(self, clips: NDArray[np.integer], begins: NDArray[np.integer], n_samples: int) -> FloatArray:
        """Cut a window from each of some clips: (B, n_samples) float32. A clip that ends before it does repeats.

        Args:
            clips: (B,) which of the clips.
            begins: (B,) where in the clip each window begins.
            n_samples: length of the windows.
        """
        return _in_full_scale(self.cut_as_stored(clips, begins, n_samples))

    def cut_as_stored(self, clips: NDArray[np.integer], begins: NDArray[np.integer], n_samples: int) -> _Samples:
        """The same, float32 or int16 as the samples are."""
        first = self._starts[clips] + begins
        if np.all(begins + n_samples <= self.lengths[clips]):
            windows: _Samples = np.lib.stride_tricks.sliding_window_view(self._samples, n_samples)[first]
            return windows
        offsets = (begins[:, None] + np.arange(n_samples)) % self.lengths[clips][:, None]  # (B, n_samples)
        repeated: _Samples = self._samples[self._starts[clips][:, None] + offsets]
        return repeated


def _in_full_scale(samples: _Samples) -> FloatArray:
    if samples.dtype == np.float32:
        return np.asarray(samples, dtype=np.float32)
    waves = samples.astype(np.float32)
    waves *= np.float32(1.0 / FULL_SCALE)  # a power of two: exact
    return waves


def open_waves(folder: Path, files: Sequence[str], *, later: Sequence[str] = ()) -> Waves:
    """Open clips by their file names: of a prepared folder mapped, so that they take no memory, else read whole.

    later: clips that are opened later on; those of an unprepared folder are read through now and not kept, so that
    what is wrong with them is told now.

    Raises:
        ClipError: a clip that cannot be used, as one that is broken, shorter than a second or silent; all of them in
            one message.
        UsageError: a clip is not in the prepared folder, or there are too many to read into memory.
    """
    if is_prepared(folder):
        index = read_index(folder)
        return Waves(map_samples(folder, index), *places_of(index, files, folder))
    or_prepared = f", or a prepared folder, which takes none: python -m train.prepare {folder} --out PREPARED"
    waves, faults = read_clips(folder, files, _read_usable, advice=or_prepared)
    for file in later:
        try:
            check_usable(folder / file, stream_clip(folder / file, max_s=MAX_CLIP_S))
        except ClipError as error:
            faults.append(str(error))
    raise_faults(faults, "python -m train.prepare leaves such clips out and says which")
    return Waves.from_arrays(waves)


def read_clips(
    folder: Path, files: Sequence[str], read: Callable[[Path], FloatArray], *, advice: str = ""
) -> tuple[list[FloatArray], list[str]]:
    """Read clips into memory.

    advice: what would do where they do not fit, other than fewer.

    Returns:
        samples (n,) float32 of each clip that can be read, and what is wrong with each that cannot.

    Raises:
        UsageError: there are too many to read into memory.
    """
    waves: list[FloatArray] = []
    faults: list[str] = []
    room_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in files:
        try:
            waves.append(read(folder / file))
        except ClipError as error:
            faults.append(str(error))
            continue
        room_bytes -= 2 * waves[-1].nbytes  # once as read, once end to end
        if room_bytes < 0:
            raise UsageError(
                f"{folder}: {len(files)} clips do not fit into memory (full at {file}); expected fewer{advice}"
            )
    return waves, faults


def raise_faults(faults: Sequence[str], advice: str) -> None:
    """Tell what is wrong with clips, up to ten of them.

    Raises:
        ClipError: there is anything.
    """
    if faults:
        more = f"\n... and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise ClipError("\n".join(faults[:10]) + more + f"\n{advice}")


def _read_usable(path: Path) -> FloatArray:
    wave = read_clip(path)
    check_usable(path, [wave])
    return wave

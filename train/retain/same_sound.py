"""Two sets of clips in, which of the first hold sound of the second out, whatever became of format, level and ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.signal
from numpy.typing import NDArray

from edge_asd.features import log_mel_db
from edge_asd.types import FeatureSpec, FloatArray
from train.data import Waves

_HOP = FeatureSpec().hop_samples
_BANDS, _LOWEST_HZ, _HIGHEST_HZ = 25, 100.0, 7_000.0  # what codecs keep
_FLOOR_POWER = 1e-7  # of noise at -90 dB of full scale: below it lies rounding
_RANGE_DB = 50.0  # below the loudest band of a frame lies what codecs leave out
_FRAMES, _FRAME_STEP = 16, 2
_SPAN = _FRAME_STEP * (_FRAMES - 1) + 1
_MARK_SAMPLES = _SPAN * _HOP  # 1 s
_LEAST_CHANGE = 1e-3  # dB; below it a mark holds rounding alone
_PLACES_AT_ONCE = 512  # bounds the memory of one product
_AROUND_SAMPLES = (64_000, 4_000)  # all that is there, up to 9 s; and 1.5 s, where no more is shared
_KEPT_PEAKS = 1e-6  # share of a cross-spectrum's highest bin above which bins weigh alike
_BLOCK_SAMPLES, _LEAST_BLOCKS, _SHORT_BLOCKS = 160, 5, 50  # 10 ms, in which there is sound or not
_SOUNDING_RMS = 1e-4  # -80 dB of full scale

CANDIDATE = 0.6
"""Correlation of marks from which the waves are compared."""
SAME, SAME_WHERE_SHORT = 0.4, 0.9
"""Correlation of waves from which their sound is the same; less than 0.5 s of sound is alike by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """Clips with a mark for each second of them.

    A mark is what 1 s of log-mel does over time, as differences of neighbouring bands: free of level and of what is
    steady in the spectrum. marks: (N, size) of unit length, or zeros. clips, begins: (N,) clip and first sample of
    each.
    """

    waves: Waves
    marks: FloatArray
    clips: NDArray[np.int64]
    begins: NDArray[np.int64]


def mark(waves: Waves) -> Marked:
    """Mark every second of every clip, the last one from the end; a shorter clip is followed by silence."""
    marks, clips, begins = [], [], []
    for clip, wave in enumerate(waves):
        steps_db = _changes(np.pad(wave, (0, max(0, _MARK_SAMPLES - len(wave)))))
        last = steps_db.shape[1] - _SPAN
        places = np.unique(np.append(np.arange(0, last, _SPAN), last))
        of_clip = _marks(steps_db, places)
        places = places[of_clip.any(axis=1)]
        marks.append(of_clip[of_clip.any(axis=1)])
        clips.append(np.full(len(places), clip))
        begins.append(_HOP * places)
    size = _FRAMES * (_BANDS - 1)
    return Marked(
        waves=waves,
        marks=np.concatenate([np.zeros((0, size), np.float32), *marks]),
        clips=np.concatenate([np.zeros(0, np.int64), *clips]),
        begins=np.concatenate([np.zeros(0, np.int64), *begins]),
    )


def shared_with(marked: Marked, others: Waves) -> dict[int, int]:
    """Find the clips that hold sound of others: each such clip, and one of the others.

    Found are 2 s or more that both hold, and shorter clips as a whole, recoded, resampled, at another level or cut
    elsewhere. Where marks correlate by `CANDIDATE` or more at any lag, the waves are compared.

    Measured on 1,800 clips (ESC-50, propellers, motors), each with every second one of them: of 1.6 million pairs of
    different recordings 2,011 are candidates, and their waves correlate by 0.37 at most (half by less than 0.04) but
    for five pairs that are one recording, uploaded twice; of 1,400 copies (PCM_16; Vorbis, shorter at both ends;
    Vorbis at 48 kHz; 20 dB lower in PCM_16) all marks correlate by 0.70 or more and the waves by 0.73 or more where
    0.5 s or more is heard, and one is missed, in Vorbis and shorter than that.
    """
    shared: dict[int, int] = {}
    if not len(marked.marks):
        return shared
    for number, other in enumerate(others):
        best, places = _best_places(marked.marks, other)
        for clip in np.unique(marked.clips[best >= CANDIDATE]):
            if int(clip) in shared:
                continue
            of_clip = np.flatnonzero(marked.clips == clip)
            top = of_clip[np.argmax(best[of_clip])]
            begins = int(marked.begins[top]), _HOP * int(places[top]) - _MARK_SAMPLES
            one = marked.waves[int(clip)]
            if any(are_same(*_aligned(one, begins[0], other, begins[1], around)) for around in _AROUND_SAMPLES):
                shared[int(clip)] = number
    return shared


def are_same(one: FloatArray, other: FloatArray) -> bool:
    """Whether two waves (n,), aligned within a few ms, are of one recording."""
    taper = scipy.signal.windows.hann(len(one)).astype(np.float32)
    n_blocks = min(_sounding_blocks(taper * wave) for wave in (one, other))
    if n_blocks < _LEAST_BLOCKS:
        return False
    return likeness(one, other) >= (SAME if n_blocks >= _SHORT_BLOCKS else SAME_WHERE_SHORT)


def _sounding_blocks(wave: FloatArray) -> int:
    blocks = wave[: len(wave) // _BLOCK_SAMPLES * _BLOCK_SAMPLES].reshape(-1, _BLOCK_SAMPLES)
    return int(np.count_nonzero(np.mean(np.square(blocks), axis=1) >= _SOUNDING_RMS**2))


def likeness(one: FloatArray, other: FloatArray) -> float:
    """Correlate two waves (n,) at their best lag, of either sign and with their spectra made flat: 0..1.

    Flat spectra make two recordings of one tone unlike, as what lies beside the tone differs. Tapered ends keep the
    tone from leaking there.

    Source: Knapp and Carter, The Generalized Correlation Method for Estimation of Time Delay (1976), phase transform.
    """
    taper = scipy.signal.windows.hann(len(one)).astype(np.float32)
    n_fft = scipy.fft.next_fast_len(2 * len(one), real=True)
    cross = scipy.fft.rfft(taper * one, n_fft) * np.conj(scipy.fft.rfft(taper * other, n_fft))
    sizes = np.abs(cross)
    if not sizes.max() > 0.0:
        return 0.0
    cross /= sizes + _KEPT_PEAKS * sizes.max()
    highest = 2.0 * np.abs(cross).sum() / n_fft
    return float(np.abs(scipy.fft.irfft(cross, n_fft)).max() / highest)


def _changes(wave: FloatArray) -> FloatArray:
    """Steps from band to band (bands - 1, frames) in dB of a wave's log-mel, one a hop."""
    spec = FeatureSpec(
        window_samples=len(wave),
        n_mels=_BANDS,
        f_min_hz=_LOWEST_HZ,
        f_max_hz=_HIGHEST_HZ,
        power_floor=_FLOOR_POWER,
    )
    level_db = log_mel_db(wave, spec)  # (bands, frames)
    return np.diff(np.maximum(level_db, level_db.max(axis=0) - _RANGE_DB), axis=0)


def _marks(steps_db: FloatArray, places: NDArray[np.int64]) -> FloatArray:
    """Marks (places, size) that begin at some frames of (bands - 1, frames)."""
    spans = np.lib.stride_tricks.sliding_window_view(steps_db, _SPAN, axis=1)[:, places, ::_FRAME_STEP]
    marks = spans.transpose(1, 0, 2)  # (places, bands - 1, 16)
    marks = (marks - marks.mean(axis=2, keepdims=True)).reshape(len(places), -1)
    sizes = np.sqrt(np.einsum("ij,ij->i", marks, marks))[:, None]
    least = _LEAST_CHANGE * np.sqrt(marks.shape[1])
    return np.where(sizes > least, marks / np.maximum(sizes, least), 0.0).astype(np.float32)


def _best_places(marks: FloatArray, other: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
    """Correlation (N,) of each mark with the wave at its best place, and that place (N,), in silence 1 s ahead."""
    steps_db = _changes(np.pad(other, _MARK_SAMPLES))
    best = np.full(len(marks), -1.0, dtype=np.float32)
    places = np.zeros(len(marks), dtype=np.int64)
    for first in range(0, steps_db.shape[1] - _SPAN + 1, _PLACES_AT_ONCE):
        every = np.arange(first, min(first + _PLACES_AT_ONCE, steps_db.shape[1] - _SPAN + 1))
        found = marks @ _marks(steps_db, every).T  # (N, places)
        place = found.argmax(axis=1)
        highest = found[np.arange(len(marks)), place]
        better = highest > best
        best[better], places[better] = highest[better], first + place[better]
    return best, places


def _aligned(
    one: FloatArray, begin: int, other: FloatArray, other_begin: int, around: int
) -> tuple[FloatArray, FloatArray]:
    """What of two waves lies up to so many samples around marks that are alike; the second mark may begin ahead."""
    back = min(begin, other_begin, around)
    one, other = one[begin - back :], other[other_begin - back :]
    n = min(len(one), len(other), back + _MARK_SAMPLES + around)
    return one[:n], other[:n]

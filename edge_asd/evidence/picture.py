"""A log-mel spectrogram and the scores above it in, a PNG out."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import png
from numpy.typing import NDArray

from edge_asd.types import FloatArray

SCORES_PIXELS = 120
_MEL_PIXELS = 4
"""Height of one mel band."""

_RANGE_DB = 70.0
_MIN_SPAN = 1.0  # of scores, so that a flat line is not all of the noise

# Black over purple and orange to pale yellow, ever brighter: it reads in grey too. Source: matplotlib's inferno.
_ANCHORS = (
    *((0, 0, 4), (27, 12, 65), (74, 12, 107), (120, 28, 109), (165, 44, 96)),
    *((207, 68, 70), (237, 105, 37), (251, 155, 6), (247, 209, 61), (252, 255, 164)),
)
_N_SHADES = 250
_PAPER, _LINE, _LIMIT, _MARK = range(_N_SHADES, _N_SHADES + 4)
_COLOURS = [(255, 255, 255), (20, 60, 140), (200, 30, 30), (0, 160, 80)]


def picture_png(
    log_mel_db: FloatArray, *, scores: Sequence[tuple[float, float]], threshold: float, length_s: float, mark_s: float
) -> bytes:
    """Draw scores (blue) with their threshold (red) above the spectrogram, low frequencies below.

    One pixel a frame. A green line marks the moment `mark_s`.

    Args:
        log_mel_db: (n_mels, n_frames).
        scores: (at_s, score).
        threshold: of the scores.
        length_s: of the sound.
        mark_s: a moment of it.
    """
    shades = np.concatenate((_scores(log_mel_db.shape[1], scores, threshold, length_s), _spectrogram(log_mel_db)))
    column = min(int(mark_s / length_s * shades.shape[1]), shades.shape[1] - 1)
    shades[:, column] = _MARK
    drawn = io.BytesIO()
    writer = png.Writer(width=shades.shape[1], height=shades.shape[0], palette=[*_inferno(), *_COLOURS], bitdepth=8)
    writer.write_packed(drawn, [row.tobytes() for row in shades])
    return drawn.getvalue()


def _spectrogram(log_mel_db: FloatArray) -> NDArray[np.uint8]:
    top_db = float(np.percentile(log_mel_db, 99.9))
    level = np.clip((log_mel_db - top_db) / _RANGE_DB + 1.0, 0.0, 1.0)
    shades = np.round(level[::-1] * (_N_SHADES - 1)).astype(np.uint8)
    return np.repeat(shades, _MEL_PIXELS, axis=0)


def _scores(width: int, scores: Sequence[tuple[float, float]], threshold: float, length_s: float) -> NDArray[np.uint8]:
    shades = np.full((SCORES_PIXELS, width), _PAPER, dtype=np.uint8)
    values = [threshold, *(score for _, score in scores)]
    low, high = min(values), max(values)
    margin = max(high - low, _MIN_SPAN) * 0.1

    def row(value: float) -> int:
        return round((high + margin - value) / (high - low + 2 * margin) * (SCORES_PIXELS - 1))

    shades[row(threshold)] = _LIMIT
    if scores:
        at_s, heights = np.array(scores).T
        seconds = (np.arange(width) + 0.5) * length_s / width
        line = np.array([row(value) for value in np.interp(seconds, at_s, heights)])
        before = np.concatenate((line[:1], line[:-1]))
        rows = np.arange(SCORES_PIXELS)[:, np.newaxis]
        drawn = (seconds >= at_s[0] - length_s / width) & (seconds <= at_s[-1] + length_s / width)
        shades[(rows >= np.minimum(line, before)) & (rows <= np.maximum(line, before) + 1) & drawn] = _LINE
    return shades


def _inferno() -> list[tuple[int, int, int]]:
    anchors = np.array(_ANCHORS)
    places = np.linspace(0, len(anchors) - 1, _N_SHADES)
    channels = [np.round(np.interp(places, np.arange(len(anchors)), anchors[:, c])).astype(int) for c in range(3)]
    return [(int(red), int(green), int(blue)) for red, green, blue in zip(*channels, strict=True)]

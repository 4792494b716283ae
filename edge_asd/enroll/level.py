"""A window in, how loud it is and whether that is loud enough to be learned out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edge_asd.types import FloatArray

TOO_QUIET = "too_quiet"
MIN_LEVEL_DBFS = -80.0
"""Below it, 16 bits have three steps and less: what would be learned is the converter."""

_DOUBTFUL_DBFS = -60.0
_FLOOR_DBFS = -200.0


def level_dbfs(wave: FloatArray) -> float:
    """Root mean square of a window (window_samples,) about its mean, in dB of full scale 1; -200 at the least."""
    deviation = float(np.std(wave, dtype=np.float64))
    return max(_FLOOR_DBFS, 20.0 * math.log10(deviation)) if deviation > 0.0 else _FLOOR_DBFS


def is_too_quiet(wave: FloatArray) -> bool:
    """Whether a window is no sound of a machine, though the ear's checks let it pass."""
    return level_dbfs(wave) < MIN_LEVEL_DBFS


def level_report(levels_dbfs: Sequence[float]) -> str:
    """The median level of what was learned, one or more windows, and what to think of it, for people."""
    median = float(np.median(levels_dbfs))
    told = f"median level {median:.0f} dBFS"
    if median >= _DOUBTFUL_DBFS:
        return told
    return (
        f"{told}: so quiet may be a microphone's own noise rather than a machine; expected above {_DOUBTFUL_DBFS:.0f} "
        "dBFS; check that the machine ran, the microphone's place and the recording level"
    )

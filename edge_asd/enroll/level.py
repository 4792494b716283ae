"""A window in, how loud it is and whether that is loud enough to be learned out."""

from __future__ import annotations

import math

import numpy as np

from edge_asd.types import FloatArray

TOO_QUIET = "too_quiet"
MIN_LEVEL_DBFS = -80.0
"""Below it, 16 bits have three steps and less: what would be learned is the converter."""

_FLOOR_DBFS = -200.0


def level_dbfs(wave: FloatArray) -> float:
    """Root mean square of a window (window_samples,) about its mean, in dB of full scale 1; -200 at the least."""
    deviation = float(np.std(wave, dtype=np.float64))
    return max(_FLOOR_DBFS, 20.0 * math.log10(deviation)) if deviation > 0.0 else _FLOOR_DBFS


def is_too_quiet(wave: FloatArray) -> bool:
    """Whether a window is no sound of a machine, though the ear's checks let it pass."""
    return level_dbfs(wave) < MIN_LEVEL_DBFS

"""A wave in, the same at a wanted level out."""

from __future__ import annotations

import numpy as np

from train.synth.machine import Wave


def rms(wave: Wave) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(wave))))


def at_rms(wave: Wave, wanted: float) -> Wave:
    """Scale to a root mean square; silence stays silent."""
    now = rms(wave)
    return wave * (wanted / now) if now > 0.0 else wave


def gain_from_db(level_db: float) -> float:
    """Factor of an amplitude."""
    return float(10.0 ** (level_db / 20.0))

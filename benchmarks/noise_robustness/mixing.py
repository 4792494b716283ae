"""A machine's sound, noise and a signal-to-noise ratio in, their mixture as a microphone would deliver it out."""

from __future__ import annotations

import numpy as np

from edge_asd.errors import ClipError
from edge_asd.types import FloatArray
from train.data.waves import FULL_SCALE

LEVEL_DBFS = -36.0
"""RMS of every mixture below full scale: loudness says nothing, and peaks find room."""


def mix(machine: FloatArray, noise: FloatArray, snr_db: float) -> FloatArray:
    """Mix so that the machine's power over the noise's is `snr_db`, at LEVEL_DBFS, (n,) float32 in steps of int16.

    Args:
        machine: (n,); its mean is taken out.
        noise: (n,) likewise.
        snr_db: over all n samples.

    Raises:
        ClipError: one of them is silent, or the mixture leaves full scale.
    """
    wave = parts(machine, noise, snr_db).sum(axis=0)  # (n,)
    steps = np.rint(wave * FULL_SCALE)
    if np.abs(steps).max() >= FULL_SCALE:
        raise ClipError(
            f"a mixture at {snr_db:g} dB reaches {np.abs(wave).max():.2f} of full scale at {LEVEL_DBFS:g} dBFS; "
            "expected less than 1; leave out noise with such peaks"
        )
    mixture: FloatArray = (steps / FULL_SCALE).astype(np.float32)
    return mixture


def parts(machine: FloatArray, noise: FloatArray, snr_db: float) -> FloatArray:
    """The machine and the noise as they stand in their mixture, (2, n) float64; their sum has LEVEL_DBFS.

    Raises:
        ClipError: one of them is silent.
    """
    scaled = np.stack([_at_unit_rms(machine, "machine"), 10.0 ** (-snr_db / 20.0) * _at_unit_rms(noise, "noise")])
    rms = np.sqrt(np.mean(np.square(scaled.sum(axis=0))))
    both: FloatArray = scaled * (10.0 ** (LEVEL_DBFS / 20.0) / rms)
    return both


def repeated(wave: FloatArray, n_samples: int, start: int = 0) -> FloatArray:
    """The first n_samples from `start` on, beginning again where the sound ends."""
    return np.take(wave, np.arange(start, start + n_samples), mode="wrap")


def _at_unit_rms(wave: FloatArray, what: str) -> FloatArray:
    wave = wave.astype(np.float64)
    wave -= wave.mean()
    rms = np.sqrt(np.mean(np.square(wave)))
    if not rms > 1e-7:
        raise ClipError(f"the {what} is silent (RMS {rms:.1e}); expected sound; leave the clip out")
    unit: FloatArray = wave / rms
    return unit

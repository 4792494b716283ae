"""A machine's sound, noise and a signal-to-noise ratio in, their mixture as a microphone would deliver it out."""

from __future__ import annotations

import numpy as np

from edge_asd.errors import ClipError
from edge_asd.types import FloatArray
from train.data.waves import FULL_SCALE
from train.retain.mixing import noise_at_snr

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
    """The machine and the noise as they stand in their mixture, (2, n); their sum has LEVEL_DBFS.

    Raises:
        ClipError: one of them is silent.
    """
    machine, noise = _audible(machine, "machine"), _audible(noise, "noise")
    both = np.stack([machine, noise_at_snr(machine[None], noise[None], snr_db)[0]])
    rms = np.sqrt(np.mean(np.square(both.sum(axis=0), dtype=np.float64)))
    return both * np.float32(10.0 ** (LEVEL_DBFS / 20.0) / rms)


def repeated(wave: FloatArray, n_samples: int, start: int = 0) -> FloatArray:
    """The first n_samples from `start` on, beginning again where the sound ends."""
    return np.take(wave, np.arange(start, start + n_samples), mode="wrap")


def _audible(wave: FloatArray, what: str) -> FloatArray:
    """The wave without its mean."""
    centred: FloatArray = (wave - wave.mean(dtype=np.float64)).astype(np.float32)
    rms = np.sqrt(np.mean(np.square(centred, dtype=np.float64)))
    if not rms > 1e-7:
        raise ClipError(f"the {what} is silent (RMS {rms:.1e}); expected sound; leave the clip out")
    return centred

"""Noise of moving air, fluids and rough surfaces: white noise shaped over frequency."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

from train.synth.levels import at_rms
from train.synth.machine import SAMPLE_RATE_HZ, Wave


def turbulence(rng: np.random.Generator, n_samples: int, peak_hz: float, *, slope: float = 2.5) -> Wave:
    """Broadband noise of a turbulent flow, RMS 1: rising as f below its peak, power falling as f^-slope far above it.

    Source: W. K. Blake, Mechanics of Flow-Induced Sound and Vibration (1986): a broad hump around a Strouhal
    frequency, then a power law.
    """

    def amplitude(frequencies_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        ratio = frequencies_hz / peak_hz
        return np.sqrt(ratio / (1.0 + ratio ** (1.0 + slope)))

    return shaped_noise(rng, n_samples, amplitude(_frequencies(n_samples)))


def jet_hiss(rng: np.random.Generator, n_samples: int, peak_hz: float) -> Wave:
    """Hiss of a jet through a small leak, RMS 1.

    The spectrum of power rises as f^2 below its peak at about 0.2 U / d, and falls as f^-2 above.

    Source: M. J. Lighthill, On sound generated aerodynamically (1952, 1954).
    """
    ratio = _frequencies(n_samples) / peak_hz
    return shaped_noise(rng, n_samples, ratio / (1.0 + ratio**2))


def rumble(rng: np.random.Generator, n_samples: int, *, slope: float = 1.2, lowest_hz: float = 40.0) -> Wave:
    """Noise of a room full of other sources, RMS 1: power falls as f^-slope above `lowest_hz`."""
    frequencies_hz = np.maximum(_frequencies(n_samples), lowest_hz)
    return shaped_noise(rng, n_samples, (frequencies_hz / lowest_hz) ** (-slope / 2.0))


def shaped_noise(rng: np.random.Generator, n_samples: int, amplitudes: NDArray[np.float64]) -> Wave:
    """Gaussian noise, RMS 1, of amplitudes over the frequencies of a fast length; the mean is left out."""
    length = next_fast_len(n_samples, real=True)
    spectrum = rfft(rng.standard_normal(length)) * amplitudes
    spectrum[0] = 0.0
    return at_rms(irfft(spectrum, length)[:n_samples], 1.0)


def _frequencies(n_samples: int) -> NDArray[np.float64]:
    frequencies_hz: NDArray[np.float64] = rfftfreq(next_fast_len(n_samples, real=True), 1.0 / SAMPLE_RATE_HZ)
    return frequencies_hz

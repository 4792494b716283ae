"""Blows and forces in, the ringing of the structure that they act on out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import oaconvolve

from train.synth.machine import SAMPLE_RATE_HZ, Wave

_LONGEST = 4096
_FADED = np.log(1000.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Structure:
    """Natural modes of a housing: frequency in Hz, damping ratio and gain of each, (M,)."""

    frequencies_hz: NDArray[np.float64]
    damping_ratios: NDArray[np.float64]
    gains: NDArray[np.float64]

    @classmethod
    def draw(
        cls, rng: np.random.Generator, low_hz: float, high_hz: float, *, n_modes: int = 5, damping: float = 0.02
    ) -> Structure:
        """Build one with modes from `low_hz` to `high_hz`, evenly scattered over the logarithm of frequency."""
        places = (np.arange(n_modes) + rng.uniform(0.1, 0.9, n_modes)) / n_modes
        return cls(
            frequencies_hz=low_hz * (high_hz / low_hz) ** places,
            damping_ratios=damping * rng.lognormal(0.0, 0.3, n_modes),
            gains=rng.lognormal(0.0, 0.4, n_modes) * rng.choice([-1.0, 1.0], n_modes),
        )

    def response(self) -> Wave:
        """Response to a blow, of unit energy: the sum of exp(-2 pi f z t) sin(2 pi f sqrt(1 - z^2) t) over the modes.

        Source: any text on vibration, as S. S. Rao, Mechanical Vibrations, impulse response of one degree of freedom.
        """
        decays = 2.0 * np.pi * self.frequencies_hz * self.damping_ratios
        length = min(_LONGEST, int(_FADED / decays.min() * SAMPLE_RATE_HZ) + 1)
        times_s = np.arange(length)[:, None] / SAMPLE_RATE_HZ  # (L, 1)
        damped_hz = self.frequencies_hz * np.sqrt(1.0 - self.damping_ratios**2)
        rings = np.exp(-decays * times_s) * np.sin(2.0 * np.pi * damped_hz * times_s)  # (L, M)
        response: Wave = np.sum(self.gains * rings / np.sqrt(np.sum(rings**2, axis=0)), axis=1)
        return response / float(np.sqrt(np.sum(response**2)))

    def ring(self, force: Wave) -> Wave:
        """Ring under a force, both (n_samples,)."""
        rung: Wave = oaconvolve(force, self.response())[: len(force)]
        return rung


def blows(n_samples: int, places: NDArray[np.float64], strengths: NDArray[np.float64] | float = 1.0) -> Wave:
    """Force (n_samples,) of blows at fractional samples, each shared by its two neighbours; those outside are lost."""
    strengths = np.broadcast_to(strengths, places.shape)
    inside = (places >= 0.0) & (places < n_samples - 1)
    whole = places[inside].astype(np.int64)
    share = places[inside] - whole
    force = np.zeros(n_samples)
    np.add.at(force, whole, strengths[inside] * (1.0 - share))
    np.add.at(force, whole + 1, strengths[inside] * share)
    return force

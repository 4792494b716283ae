"""Length of a sound in, the magnetic hum of a motor or coil on the mains out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from train.synth.machine import SAMPLE_RATE_HZ, Wave

_MAINS_HZ = 50.0


def hum(rng: np.random.Generator, n_samples: int, gains: Sequence[float] = (1.0, 0.45, 0.25)) -> Wave:
    """Hum (n_samples,) at multiples of twice the mains frequency: magnetic force goes as the square of the flux.

    Source: P. L. Timar, Noise and Vibration of Electrical Machines (1989).
    """
    times_s = np.arange(n_samples) / SAMPLE_RATE_HZ
    phases = rng.uniform(0.0, 2.0 * np.pi, len(gains))
    frequency_hz = _MAINS_HZ * (1.0 + 0.0005 * rng.standard_normal())
    wave = np.zeros(n_samples)
    for number, (gain, phase) in enumerate(zip(gains, phases, strict=True), start=1):
        wave += gain * np.sin(2.0 * np.pi * 2.0 * number * frequency_hz * times_s + phase)
    return wave

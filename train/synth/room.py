"""Sound beside the machine in, sound that a microphone in the room hears out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import butter, oaconvolve, sosfilt

from train.synth.machine import SAMPLE_RATE_HZ, Wave

_MICROPHONE = butter(2, 25.0, "highpass", fs=SAMPLE_RATE_HZ, output="sos")
"""A sound card passes no direct current, and a small microphone little below 25 Hz."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Room:
    """Impulse response from a machine to its microphone, (L,)."""

    response: Wave

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Room:
        """Build one: a direct sound, then noise that decays by 60 dB within 0.15 to 0.4 s and darkens.

        Source: J.-D. Polack, La transmission de l'energie sonore dans les salles (1988): late reverberation is
        Gaussian noise under an exponential envelope.
        """
        decay_s = rng.uniform(0.15, 0.4)
        length = int(decay_s * SAMPLE_RATE_HZ)
        times_s = np.arange(length) / SAMPLE_RATE_HZ
        tail = rng.standard_normal(length) * 10.0 ** (-3.0 * times_s / decay_s)
        tail = np.convolve(tail, [0.5, 0.5], mode="same")
        tail[: int(0.002 * SAMPLE_RATE_HZ)] = 0.0
        tail *= 10.0 ** (rng.uniform(-8.0, -3.0) / 20.0) / np.sqrt(np.sum(tail**2))
        tail[0] = 1.0
        return cls(response=tail)

    def hear(self, wave: Wave) -> Wave:
        """Sound at the microphone, (n_samples,)."""
        heard: Wave = sosfilt(_MICROPHONE, oaconvolve(wave, self.response)[: len(wave)])
        return heard

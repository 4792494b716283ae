"""Teeth and shaft angles in, the whine of a gear mesh and the sidebands of its damage out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from train.synth.machine import SAMPLE_RATE_HZ, Wave

_HIGHEST_HZ = 0.45 * SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GearPair:
    """Teeth of the driving and the driven wheel, and the amplitudes of the mesh's harmonics (K,)."""

    driving_teeth: int
    driven_teeth: int
    amplitudes: Wave

    @classmethod
    def draw(cls, rng: np.random.Generator, driving_teeth: int, driven_teeth: int) -> GearPair:
        """Build a pair whose mesh harmonics fall by about 8 dB each, with scatter."""
        amplitudes = 10.0 ** (-8.0 * np.arange(4) / 20.0) * rng.lognormal(0.0, 0.3, 4)
        return cls(driving_teeth=driving_teeth, driven_teeth=driven_teeth, amplitudes=amplitudes)

    @property
    def reduction(self) -> float:
        """Turns of the driven wheel in a turn of the driving one."""
        return self.driving_teeth / self.driven_teeth

    def mesh(self, rng: np.random.Generator, angle: Wave, modulation: Wave | float = 0.0) -> Wave:
        """Sound of the mesh: sum of A_m (1 + a(t)) cos(2 pi m z t + m b(t)) with a and b locked to the shaft.

        Sidebands stand around each harmonic of the mesh at multiples of the shaft's rate.

        Source: P. D. McFadden, Detecting fatigue cracks in gears by amplitude and phase demodulation of the meshing
        vibration, J. Vib. Acoust. 108 (1986), eq. 1.

        Args:
            rng: of the phases.
            angle: (n_samples,) of the driving shaft, in turns.
            modulation: (n_samples,) a(t); b(t) is half of it.
        """
        phases = rng.uniform(0.0, 2.0 * np.pi, len(self.amplitudes))
        mesh_hz = self.driving_teeth * float(np.max(np.diff(angle))) * SAMPLE_RATE_HZ
        wave = np.zeros(len(angle))
        for number, (amplitude, phase) in enumerate(zip(self.amplitudes, phases, strict=True), start=1):
            if number * mesh_hz < _HIGHEST_HZ:
                argument = 2.0 * np.pi * number * self.driving_teeth * angle + phase + 0.5 * number * modulation
                wave += amplitude * np.cos(argument)
        return wave * (1.0 + modulation)


def tooth_fault(angle: Wave, *, width: float = 0.08) -> Wave:
    """Modulation a(t) of a cracked tooth: a bump of unit height once a turn, `width` of a turn wide, of mean zero."""
    distance = (angle + 0.5) % 1.0 - 0.5
    bump = np.exp(-0.5 * np.square(distance / width))
    centred: Wave = bump - width * np.sqrt(2.0 * np.pi)
    return centred

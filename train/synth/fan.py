"""An axial fan: blade-pass tones, flow noise, hum of its motor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from train.synth.bearing import Bearing
from train.synth.flow import turbulence
from train.synth.levels import at_rms
from train.synth.looseness import rattle
from train.synth.machine import Damage, Fault, Operation, Take, Wave
from train.synth.motor import hum
from train.synth.shaft import tones, turns
from train.synth.structure import Structure

_SPEED_EXPONENT = 2.5
"""Sound pressure goes as speed^2.5: 50 log10 of the speed in level. Source: ASHRAE Handbook, fan laws of sound."""
# What a fault of severity 1 adds, where the healthy machine has an RMS of about 1. Chosen, so that faults are about
# equally hard to hear; no formula gives them.
_IMBALANCE = 0.85
_SHAKING = 0.6
_BEARING = 0.4
_LOOSENESS = 0.8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fan:
    """One fan: shaft_hz and n_blades give its blade-pass frequency n_blades * shaft_hz."""

    FAULTS: ClassVar[tuple[Fault, ...]] = ("imbalance", "bearing", "looseness")

    shaft_hz: float
    n_blades: int
    blade_gains: Wave  # (K,) of the harmonics of the blade-pass frequency
    unevenness: float
    flow_peak_hz: float
    casing_share: float
    casing: Structure
    bearing: Bearing

    @property
    def speed_hz(self) -> float:
        """Nominal turns of the shaft a second."""
        return self.shaft_hz

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Fan:
        """Build a fan of 1,300 to 2,900 turns a minute with 5 to 9 blades."""
        return cls(
            shaft_hz=float(rng.uniform(22.0, 48.0)),
            n_blades=int(rng.integers(5, 10)),
            blade_gains=10.0 ** (-rng.uniform(4.0, 8.0) * np.arange(8) / 20.0) * rng.lognormal(0.0, 0.25, 8),
            unevenness=float(rng.uniform(0.02, 0.06)),
            flow_peak_hz=float(rng.uniform(200.0, 900.0)),
            casing_share=float(rng.uniform(0.3, 0.8)),
            casing=Structure.draw(rng, 300.0, 3_000.0),
            bearing=Bearing.draw(rng),
        )

    def sound(self, operation: Operation, damage: Damage, take: Take) -> Wave:
        """Sound (n_samples,): tones at n_blades f and its harmonics, and turbulence that swells as each blade passes.

        Imbalance throws the rotor out of the middle of its ring (the force goes as speed squared), so that tip gap and
        loading vary once a turn: sidebands at the shaft's rate around the blade-pass tones.

        Source: M. J. Lowson, Theoretical analysis of compressor noise, JASA 47 (1970), on tones of uneven blades.
        """
        rng, ratio = take.healthy, operation.speed_hz / self.shaft_hz
        angle = turns(rng, operation.speed_hz, take.n_samples)
        harmonics = self.n_blades * np.arange(1, len(self.blade_gains) + 1)
        blades = tones(rng, angle, harmonics, self.blade_gains)
        flow = turbulence(rng, take.n_samples, self.flow_peak_hz * ratio)
        flow += at_rms(self.casing.ring(flow), self.casing_share)
        passing = 1.0 + 0.25 * np.sin(2.0 * np.pi * self.n_blades * angle)
        imbalance = damage.severity_of("imbalance") * ratio**2
        once = np.cos(2.0 * np.pi * (angle + rng.uniform()))
        air = at_rms(blades, 0.45 + 0.25 * operation.load) + at_rms(
            flow * passing, 0.55 + 0.35 * (1.0 - operation.load)
        )
        depth = self.unevenness + _IMBALANCE * imbalance
        wave: Wave = ratio**_SPEED_EXPONENT * air * (1.0 + depth * once)
        wave += at_rms(hum(rng, take.n_samples), 0.1)
        if imbalance:
            shaking = self.casing.ring(tones(take.damaged, angle, range(1, 17), 0.8 ** np.arange(16)))
            wave += at_rms(shaking, _SHAKING * imbalance)
        if severity := damage.severity_of("bearing"):
            wave += at_rms(self.bearing.outer_defect(take.damaged, angle), _BEARING * severity)
        if severity := damage.severity_of("looseness"):
            wave += at_rms(rattle(take.damaged, angle, self.casing), _LOOSENESS * severity)
        return wave

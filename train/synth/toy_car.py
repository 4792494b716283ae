"""A toy car on a stand: brushed motor, two gear pairs, wheels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from train.synth.bearing import Bearing
from train.synth.flow import turbulence
from train.synth.gears import GearPair, tooth_fault
from train.synth.levels import at_rms
from train.synth.looseness import rattle
from train.synth.machine import Damage, Fault, Operation, Take, Wave
from train.synth.shaft import passages, tones, turns
from train.synth.structure import Structure, blows

# What a fault of severity 1 adds, where the healthy machine has an RMS of about 1. Chosen, so that faults are about
# equally hard to hear; no formula gives them.
_GEAR = 1.6
_GEAR_KNOCK = 0.25
_BEARING = 0.4
_LOOSE = 0.5
_IMBALANCE = 0.7
_HOP = 0.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ToyCar:
    """One car: its motor turns at motor_hz and drives the axle through two gear pairs."""

    FAULTS: ClassVar[tuple[Fault, ...]] = ("gear_damage", "imbalance", "bearing", "looseness")

    motor_hz: float
    first: GearPair
    second: GearPair
    slots: int
    frame: Structure
    bearing: Bearing
    wheel_peak_hz: float

    @property
    def speed_hz(self) -> float:
        """Nominal turns of the motor a second."""
        return self.motor_hz

    @classmethod
    def draw(cls, rng: np.random.Generator) -> ToyCar:
        """Build a car of 6,000 to 10,000 turns a minute at the motor."""
        return cls(
            motor_hz=float(rng.uniform(100.0, 165.0)),
            first=GearPair.draw(rng, int(rng.integers(8, 12)), int(rng.integers(30, 42))),
            second=GearPair.draw(rng, int(rng.integers(10, 15)), int(rng.integers(32, 46))),
            slots=int(rng.choice([3, 5])),
            frame=Structure.draw(rng, 400.0, 4_500.0, damping=0.03),
            bearing=Bearing.draw(rng),
            wheel_peak_hz=float(rng.uniform(500.0, 1_200.0)),
        )

    def sound(self, operation: Operation, damage: Damage, take: Take) -> Wave:
        """Sound (n_samples,): both meshes, commutation at 2 * slots a turn, rolling noise that pulses with the axle.

        A cracked tooth of the second pair's driving wheel (on the middle shaft) modulates its mesh once a turn of that
        shaft and knocks; an unbalanced wheel sways the sound once a turn of the axle and hops.
        """
        rng, ratio = take.healthy, operation.speed_hz / self.motor_hz
        motor = turns(rng, operation.speed_hz, take.n_samples, 0.004)
        middle = motor * self.first.reduction
        axle = middle * self.second.reduction
        eccentric = 0.06 * np.cos(2.0 * np.pi * middle)
        gear = damage.severity_of("gear_damage")
        imbalance = damage.severity_of("imbalance")
        modulation = eccentric + _GEAR * gear * tooth_fault(middle)
        wobble = 1.0 + (0.08 + _IMBALANCE * imbalance) * np.cos(2.0 * np.pi * axle)
        load = 0.5 + 0.5 * operation.load
        wave = 0.5 * ratio * load * self.first.mesh(rng, motor, 0.03 * np.cos(2.0 * np.pi * motor))
        wave += 0.5 * ratio * load * self.second.mesh(rng, middle, modulation) * wobble
        orders = 2.0 * self.slots * np.arange(1, 6)
        wave += at_rms(tones(rng, motor, orders, 0.6 ** np.arange(5)), 0.2)
        rolling = turbulence(rng, take.n_samples, self.wheel_peak_hz * ratio, slope=1.8)
        wave += 0.5 * ratio**1.5 * rolling * wobble
        if gear:
            wave += _GEAR_KNOCK * gear * self._knocks(middle, take)
        if imbalance:
            hop = self.frame.ring(blows(take.n_samples, passages(axle), 1.0))
            wave += at_rms(hop, _HOP * imbalance)
        if severity := damage.severity_of("bearing"):
            wave += at_rms(self.bearing.outer_defect(take.damaged, middle), _BEARING * severity)
        if severity := damage.severity_of("looseness"):
            wave += at_rms(rattle(take.damaged, axle, self.frame, per_turn=4.0), _LOOSE * severity)
        return wave

    def _knocks(self, middle: Wave, take: Take) -> Wave:
        places = passages(middle)
        return at_rms(self.frame.ring(blows(len(middle), places, take.damaged.lognormal(0.0, 0.2, len(places)))), 1.0)

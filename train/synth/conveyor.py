"""A belt conveyor: geared motor, rollers, the belt's seam, goods that rub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from train.synth.bearing import Bearing
from train.synth.flow import turbulence
from train.synth.friction import gates, rubbing, squeal
from train.synth.gears import GearPair
from train.synth.levels import at_rms
from train.synth.looseness import rattle
from train.synth.machine import SAMPLE_RATE_HZ, Damage, Fault, Operation, Take, Wave
from train.synth.shaft import passages, tones, wander
from train.synth.structure import Structure, blows

# What a fault of severity 1 adds, where the healthy machine has an RMS of about 1. Chosen, so that faults are about
# equally hard to hear; no formula gives them.
_SQUEAL = 0.45
_SLIP = 0.06
_BEARING = 0.5
_LOOSE = 0.6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conveyor:
    """One conveyor: its motor turns at motor_hz; rollers and belt follow by fixed ratios."""

    FAULTS: ClassVar[tuple[Fault, ...]] = ("slipping_belt", "bearing", "looseness")

    motor_hz: float
    gear: GearPair
    roller_per_turn: float
    belt_per_turn: float
    n_rollers: int
    rub_peak_hz: float
    squeal_hz: float
    frame: Structure
    bearing: Bearing

    @property
    def speed_hz(self) -> float:
        """Nominal turns of the motor a second."""
        return self.motor_hz

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Conveyor:
        """Build a small conveyor of 2,700 to 4,500 turns a minute at its motor."""
        gear = GearPair.draw(rng, int(rng.integers(12, 18)), int(rng.integers(48, 70)))
        return cls(
            motor_hz=float(rng.uniform(45.0, 75.0)),
            gear=gear,
            roller_per_turn=gear.reduction * float(rng.uniform(0.5, 0.8)),
            belt_per_turn=gear.reduction * float(rng.uniform(0.06, 0.1)),
            n_rollers=int(rng.integers(4, 8)),
            rub_peak_hz=float(rng.uniform(400.0, 1_000.0)),
            squeal_hz=float(rng.uniform(900.0, 2_200.0)),
            frame=Structure.draw(rng, 150.0, 2_200.0, n_modes=6, damping=0.03),
            bearing=Bearing.draw(rng),
        )

    def sound(self, operation: Operation, damage: Damage, take: Take) -> Wave:
        """Sound (n_samples,): gear mesh and motor tones, rollers, belt noise, and the seam's thump on each roller.

        A belt that slips squeals in bouts (stick-slip on its pulley) while the unloaded motor runs up and the belt
        falls behind.
        """
        rng, ratio = take.healthy, operation.speed_hz / self.motor_hz
        speed_hz = operation.speed_hz * (1.0 + 0.003 * wander(rng, take.n_samples))
        start = rng.uniform(size=3)
        slipping = damage.severity_of("slipping_belt")
        gate = gates(take.damaged, take.n_samples, share=0.5) if slipping else np.zeros(take.n_samples)
        motor = start[0] + np.cumsum(speed_hz * (1.0 + 0.3 * _SLIP * slipping * gate)) / SAMPLE_RATE_HZ
        pulled = np.cumsum(speed_hz * (1.0 - _SLIP * slipping * gate)) / SAMPLE_RATE_HZ
        roller = start[1] + pulled * self.roller_per_turn
        belt = start[2] + pulled * self.belt_per_turn
        load = 0.6 + 0.4 * operation.load
        wave = 0.3 * ratio * load * self.gear.mesh(rng, motor, 0.04 * np.cos(2.0 * np.pi * motor))
        wave += at_rms(tones(rng, motor, (1, 2, 3, 4, 6, 12), (0.6, 1.0, 0.4, 0.5, 0.4, 0.2)), 0.25)
        sway = 1.0 + 0.15 * np.cos(2.0 * np.pi * roller)
        wave += 0.5 * ratio * load * rubbing(rng, sway, self.rub_peak_hz)
        wave += 0.2 * ratio * turbulence(rng, take.n_samples, 2_500.0)
        wave += self._seam(belt, ratio * load, take)
        if slipping:
            wave += _SQUEAL * slipping * squeal(take.damaged, gate, self.squeal_hz)
        if severity := damage.severity_of("bearing"):
            wave += at_rms(self.bearing.inner_defect(take.damaged, roller), _BEARING * severity)
        if severity := damage.severity_of("looseness"):
            wave += at_rms(rattle(take.damaged, roller, self.frame, per_turn=2.0), _LOOSE * severity)
        return wave

    def _seam(self, belt: Wave, strength: float, take: Take) -> Wave:
        places = np.concatenate([passages(belt, number / self.n_rollers) for number in range(self.n_rollers)])
        force = blows(len(belt), places, take.healthy.lognormal(0.0, 0.25, len(places)))
        return at_rms(self.frame.ring(force), 0.25 * strength)

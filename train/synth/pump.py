"""A piston pump: flow ripple of its pistons, clicks of its check valves, flow noise, hum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from train.synth.bearing import Bearing
from train.synth.flow import jet_hiss, turbulence
from train.synth.levels import at_rms
from train.synth.machine import SAMPLE_RATE_HZ, Damage, Fault, Operation, Take, Wave
from train.synth.motor import hum
from train.synth.shaft import passages, turns
from train.synth.structure import Structure, blows

# What a fault of severity 1 adds, where the healthy machine has an RMS of about 1. Chosen, so that faults are about
# equally hard to hear; no formula gives them.
_LEAK = 0.95
_BEARING = 0.33
_LATE_S = 0.012
_HARD = 1.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pump:
    """One pump: n_pistons deliver in turn, once a turn of the shaft each."""

    FAULTS: ClassVar[tuple[Fault, ...]] = ("leak", "sticking_valve", "bearing")

    shaft_hz: float
    n_pistons: int
    piston_gains: Wave  # (n_pistons,) about 1: no two are quite alike
    flow_peak_hz: float
    leak_peak_hz: float
    body: Structure
    valve: Structure
    bearing: Bearing

    @property
    def speed_hz(self) -> float:
        """Nominal turns of the shaft a second."""
        return self.shaft_hz

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Pump:
        """Build a pump of 3 or 5 pistons at 280 to 600 turns a minute (a reciprocating plunger pump)."""
        n_pistons = int(rng.choice([3, 5]))
        return cls(
            shaft_hz=float(rng.uniform(4.7, 10.0)),
            n_pistons=n_pistons,
            piston_gains=rng.normal(1.0, 0.04, n_pistons),
            flow_peak_hz=float(rng.uniform(300.0, 900.0)),
            leak_peak_hz=float(rng.uniform(3_000.0, 6_000.0)),
            body=Structure.draw(rng, 150.0, 1_800.0),
            valve=Structure.draw(rng, 900.0, 4_500.0, damping=0.03),
            bearing=Bearing.draw(rng),
        )

    def ripple(self, angle: Wave, piston_gains: Wave) -> Wave:
        """Delivery (n_samples,) of all pistons: sum of g_k max(0, sin(2 pi (angle + k / n))).

        Source: J. Ivantysyn, M. Ivantysynova, Hydrostatic Pumps and Motors (2001), kinematic flow ripple.
        """
        delivery = np.zeros(len(angle))
        for number, gain in enumerate(piston_gains):
            delivery += gain * np.maximum(0.0, np.sin(2.0 * np.pi * (angle + number / len(piston_gains))))
        return delivery

    def sound(self, operation: Operation, damage: Damage, take: Take) -> Wave:
        """Sound (n_samples,): the body driven by the steps of the ripple, a click as each valve seats, fluid noise.

        A leak hisses while a piston is under pressure and takes from its delivery. A valve that sticks seats late,
        at odd times and hard.
        """
        rng, ratio = take.healthy, operation.speed_hz / self.shaft_hz
        angle = turns(rng, operation.speed_hz, take.n_samples, 0.004)
        leak, sticking = damage.severity_of("leak"), damage.severity_of("sticking_valve")
        gains = self.piston_gains * (0.6 + 0.4 * operation.load)
        if leak:
            gains = gains * np.where(np.arange(self.n_pistons) == 0, max(0.0, 1.0 - 0.5 * leak), 1.0)
        delivery = self.ripple(angle, gains)
        steps = self.body.ring(np.diff(delivery, n=2, prepend=[delivery[0], delivery[0]]))
        flow = turbulence(rng, take.n_samples, self.flow_peak_hz * ratio) * (0.5 + delivery / delivery.mean())
        wave = at_rms(steps, 0.35 * ratio * (0.7 + 0.3 * operation.load))
        wave += at_rms(flow, 0.45 * ratio**1.5)
        wave += 0.5 * self._clicks(angle, sticking, take) * ratio * (0.7 + 0.5 * operation.load)
        wave += at_rms(hum(rng, take.n_samples), 0.15)
        if leak:
            pressed = np.maximum(0.0, np.sin(2.0 * np.pi * angle)) * (0.6 + 0.4 * operation.load)
            wave += leak * _LEAK * jet_hiss(take.damaged, take.n_samples, self.leak_peak_hz) * (0.3 + pressed)
        if severity := damage.severity_of("bearing"):
            wave += at_rms(self.bearing.inner_defect(take.damaged, angle), _BEARING * severity)
        return wave

    def _clicks(self, angle: Wave, sticking: float, take: Take) -> Wave:
        """Clicks of the valves, of RMS 1 while none sticks."""
        force = np.zeros(take.n_samples)
        energy = 0.0
        for number, gain in enumerate(self.piston_gains):
            places = passages(angle, number / self.n_pistons)
            places = places + take.healthy.normal(0.0, 0.001 * SAMPLE_RATE_HZ, len(places))
            strengths = gain * take.healthy.lognormal(0.0, 0.15, len(places))
            energy += float(np.sum(strengths**2))
            if number == 0 and sticking:
                places = places + sticking * SAMPLE_RATE_HZ * take.damaged.gamma(2.0, _LATE_S, len(places))
                strengths = strengths * (1.0 + _HARD * sticking * take.damaged.gamma(2.0, 0.5, len(places)))
            force += blows(take.n_samples, places, strengths)
        return self.valve.ring(force) * float(np.sqrt(take.n_samples / energy))

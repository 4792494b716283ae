"""A linear slider: strokes to and fro, whine of its servo, friction of its guide, thump at each turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from train.synth.friction import gates, rubbing, squeal
from train.synth.levels import at_rms, rms
from train.synth.looseness import bounces
from train.synth.machine import SAMPLE_RATE_HZ, Damage, Fault, Operation, Take, Wave
from train.synth.shaft import events, tones, turns
from train.synth.structure import Structure, blows

# What a fault of severity 1 adds, where the healthy machine has an RMS of about 1. Chosen, so that faults are about
# equally hard to hear; no formula gives them.
_BEARING = 0.38
_LOOSE = 0.36
_DRY = 0.25


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slider:
    """One slider: stroke_hz strokes to and fro a second; its screw turns at screw_hz at full speed."""

    FAULTS: ClassVar[tuple[Fault, ...]] = ("bearing", "looseness", "dry_running")

    stroke_hz: float
    ramp_share: float
    rest_share: float
    screw_hz: float
    servo_orders: Wave  # (K,) per turn of the screw
    servo_gains: Wave  # (K,)
    balls_per_turn: float
    friction_peak_hz: float
    squeal_hz: float
    carriage: Structure
    nut: Structure

    @property
    def speed_hz(self) -> float:
        """Nominal strokes to and fro a second."""
        return self.stroke_hz

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Slider:
        """Build a ball-screw slider of 0.4 to 1 strokes a second."""
        poles = int(rng.choice([4, 5, 8]))
        return cls(
            stroke_hz=float(rng.uniform(0.4, 1.0)),
            ramp_share=float(rng.uniform(0.12, 0.25)),
            rest_share=float(rng.uniform(0.05, 0.2)),
            screw_hz=float(rng.uniform(22.0, 45.0)),
            servo_orders=poles * np.array([2.0, 4.0, 6.0, 12.0, 24.0]),
            servo_gains=np.array([0.5, 0.6, 1.0, 0.5, 0.25]) * rng.lognormal(0.0, 0.3, 5),
            balls_per_turn=float(rng.uniform(5.3, 7.8)),
            friction_peak_hz=float(rng.uniform(900.0, 2_200.0)),
            squeal_hz=float(rng.uniform(1_300.0, 2_600.0)),
            carriage=Structure.draw(rng, 120.0, 1_500.0),
            nut=Structure.draw(rng, 2_000.0, 5_500.0, n_modes=3, damping=0.03),
        )

    def velocity(self, angle: Wave) -> Wave:
        """Share of full speed, -1..1, (n_samples,): ramps, full speed and a rest in each half stroke (a trapezium)."""
        half = (2.0 * angle) % 1.0
        moving = half / (1.0 - self.rest_share)
        trapezium = np.clip(np.minimum(moving, 1.0 - moving) / self.ramp_share, 0.0, 1.0)
        return trapezium * np.where(np.floor(2.0 * angle) % 2.0, -1.0, 1.0)

    def sound(self, operation: Operation, damage: Damage, take: Take) -> Wave:
        """Sound (n_samples,): all of it follows the speed, so that whines rise and fall with each stroke."""
        rng, ratio = take.healthy, operation.speed_hz / self.stroke_hz
        stroke = turns(rng, operation.speed_hz, take.n_samples, 0.001)
        speed = self.velocity(stroke) * ratio
        screw = rng.uniform() + np.cumsum(np.abs(speed) * self.screw_hz) / SAMPLE_RATE_HZ
        whine = tones(rng, screw, self.servo_orders, self.servo_gains) * np.abs(speed)
        wave = at_rms(whine, 0.35 * (0.6 + 0.4 * operation.load) * ratio)
        rub = rubbing(rng, speed, self.friction_peak_hz)
        wave += at_rms(rub, 0.4 * (0.7 + 0.3 * operation.load) * ratio**0.8)
        starts = np.flatnonzero((speed[1:] != 0.0) != (speed[:-1] != 0.0)).astype(np.float64)
        thumps = blows(take.n_samples, starts, rng.lognormal(0.0, 0.1, len(starts)))
        wave += at_rms(self.carriage.ring(thumps), 0.3 * (0.5 + operation.load) * ratio)
        if severity := damage.severity_of("bearing"):
            wave += at_rms(self._rough_balls(screw, speed, take), _BEARING * severity)
        if severity := damage.severity_of("looseness"):
            later, shares = bounces(take.damaged, starts, 0.03 * SAMPLE_RATE_HZ, 0.75, 8)
            wave += at_rms(self.nut.ring(blows(take.n_samples, later, shares)), _LOOSE * severity)
        if severity := damage.severity_of("dry_running"):
            wave += severity * self._dry(rub, speed, take)
        return wave

    def _rough_balls(self, screw: Wave, speed: Wave, take: Take) -> Wave:
        """A pit in the screw's thread: a blow for each ball that passes, at a rate that follows the speed."""
        places = events(screw, self.balls_per_turn, take.damaged, jitter=0.01)
        strengths = np.abs(np.interp(places, np.arange(len(speed)), speed))
        return self.nut.ring(blows(len(speed), places, strengths * take.damaged.lognormal(0.0, 0.2, len(places))))

    def _dry(self, rub: Wave, speed: Wave, take: Take) -> Wave:
        """A guide without grease: rougher rubbing, and stick-slip squeal while it moves slowly (the ramps)."""
        slow = (np.abs(speed) > 0.02) * np.exp(-np.square((np.abs(speed) - 0.35) / 0.3))
        gate = slow * gates(take.damaged, take.n_samples, share=0.7)
        tone = squeal(take.damaged, gate, self.squeal_hz)
        return _DRY * (0.8 * rub / rms(rub) + at_rms(tone, 0.7))

"""A solenoid valve: the plunger's blows as it opens and closes, flow while it is open, hum of its coil."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from train.synth.flow import jet_hiss, turbulence
from train.synth.levels import at_rms
from train.synth.looseness import bounces
from train.synth.machine import SAMPLE_RATE_HZ, Damage, Fault, Operation, Take, Wave
from train.synth.motor import hum
from train.synth.structure import Structure, blows

_EDGE_S = 0.006
# What a fault of severity 1 adds, where the healthy machine has an RMS of about 1. Chosen, so that faults are about
# equally hard to hear; no formula gives them.
_LEAK = 0.36
_LATE_S = 0.03
_LATEST_S = 0.1
_BOUNCES = 8
_LOOSE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Valve:
    """One valve that is switched cycle_hz times a second, open for the share open_share of a cycle."""

    FAULTS: ClassVar[tuple[Fault, ...]] = ("leak", "sticking_valve", "looseness")

    cycle_hz: float
    open_share: float
    flow_peak_hz: float
    leak_peak_hz: float
    body: Structure

    @property
    def speed_hz(self) -> float:
        """Nominal cycles a second."""
        return self.cycle_hz

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Valve:
        """Build a valve that is switched 0.8 to 2.5 times a second."""
        return cls(
            cycle_hz=float(rng.uniform(0.8, 2.5)),
            open_share=float(rng.uniform(0.3, 0.6)),
            flow_peak_hz=float(rng.uniform(1_200.0, 2_500.0)),
            leak_peak_hz=float(rng.uniform(3_500.0, 6_000.0)),
            body=Structure.draw(rng, 700.0, 6_500.0, n_modes=7, damping=0.02),
        )

    def sound(self, operation: Operation, damage: Damage, take: Take) -> Wave:
        """Sound (n_samples,): a hard blow at each opening, a softer one at each closing, flow noise between the two.

        A valve that sticks moves late by a random time and then faster, with more force stored up; loose parts bounce;
        a leak hisses while the valve is closed.
        """
        rng = take.healthy
        opened, closed = self._switchings(operation, take.n_samples, rng)
        strengths = rng.lognormal(0.0, 0.1, (2, len(opened)))
        strengths[1] *= 0.6
        energy = float(np.sum(strengths**2))
        sticking = damage.severity_of("sticking_valve")
        if sticking:
            late_s = np.minimum(_LATEST_S, sticking * _LATE_S * take.damaged.gamma(1.5, 0.67, (2, len(opened))))
            opened, closed = opened + late_s[0] * SAMPLE_RATE_HZ, closed + late_s[1] * SAMPLE_RATE_HZ
            strengths = strengths * (1.0 + sticking * take.damaged.gamma(1.5, 0.25, strengths.shape))
        places = np.concatenate([opened, closed])
        force = blows(take.n_samples, places, strengths.ravel())
        if loose := damage.severity_of("looseness"):
            later, shares = bounces(take.damaged, places, 0.025 * SAMPLE_RATE_HZ, 0.75, _BOUNCES)
            force += blows(take.n_samples, later, _LOOSE * loose * shares * np.repeat(strengths.ravel(), _BOUNCES))
        opening = _between(opened, closed, take.n_samples)
        wave = self.body.ring(force) * float(np.sqrt(take.n_samples / energy))
        flow = turbulence(rng, take.n_samples, self.flow_peak_hz)
        wave += 0.35 * (0.4 + 0.6 * operation.load) * flow * opening
        wave += at_rms(hum(rng, take.n_samples), 0.08) * (0.2 + 0.8 * opening)
        if leak := damage.severity_of("leak"):
            hiss = jet_hiss(take.damaged, take.n_samples, self.leak_peak_hz)
            wave += leak * _LEAK * (0.5 + 0.5 * operation.load) * hiss * (1.0 - opening)
        return wave

    def _switchings(
        self, operation: Operation, n_samples: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Samples of each opening and each closing, from before the clip to after it."""
        period = SAMPLE_RATE_HZ / operation.speed_hz
        numbers = np.arange(-1, int(n_samples / period) + 2)
        opened = (numbers + rng.uniform()) * period + rng.normal(0.0, 0.002 * SAMPLE_RATE_HZ, len(numbers))
        return opened, opened + self.open_share * period


def _between(opened: Wave, closed: Wave, n_samples: int) -> Wave:
    """How far the valve is open, 0..1, (n_samples,): it opens and closes within some ms."""
    edges = np.concatenate([[opened - 1.0, opened + _EDGE_S * SAMPLE_RATE_HZ], [closed, closed + 200.0]]).T.ravel()
    levels = np.tile([0.0, 1.0, 1.0, 0.0], len(opened))
    order = np.argsort(edges, kind="stable")
    share: Wave = np.interp(np.arange(n_samples), edges[order], levels[order])
    return share

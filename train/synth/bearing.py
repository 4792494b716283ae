"""Geometry of a rolling bearing and the angle of its shaft in, the rates and blows of its defects out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from train.synth.machine import Wave
from train.synth.shaft import events
from train.synth.structure import Structure, blows

SLIP = 0.01
"""Random variation of each interval between blows: 1 to 2 % in practice (Randall and Antoni, 2011)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bearing:
    """Number of rolling elements, their diameter over the pitch diameter, contact angle, and what a defect excites."""

    n_elements: int
    diameter_ratio: float
    contact_angle_rad: float
    structure: Structure

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Bearing:
        """Build a deep-groove ball bearing of usual proportions; its race rings at 2.2 to 6 kHz."""
        return cls(
            n_elements=int(rng.integers(7, 11)),
            diameter_ratio=float(rng.uniform(0.18, 0.28)),
            contact_angle_rad=0.0,
            structure=Structure.draw(rng, 2_200.0, 6_000.0, n_modes=2, damping=0.03),
        )

    @property
    def outer_per_turn(self) -> float:
        """Elements that pass a point of the outer race in a turn of the shaft: BPFO = n/2 (1 - d/D cos a) f.

        Source: R. B. Randall, J. Antoni, Rolling element bearing diagnostics - a tutorial, MSSP 25 (2011), eq. 1.
        """
        return 0.5 * self.n_elements * (1.0 - self._ratio)

    @property
    def inner_per_turn(self) -> float:
        """The same for a point of the inner race: BPFI = n/2 (1 + d/D cos a) f."""
        return 0.5 * self.n_elements * (1.0 + self._ratio)

    @property
    def _ratio(self) -> float:
        return self.diameter_ratio * float(np.cos(self.contact_angle_rad))

    def outer_defect(self, rng: np.random.Generator, angle: Wave) -> Wave:
        """Sound of a pit in the outer race: a blow whenever an element passes it, ringing the structure."""
        places = events(angle, self.outer_per_turn, rng, jitter=SLIP)
        return self.structure.ring(blows(len(angle), places, rng.lognormal(0.0, 0.2, len(places))))

    def inner_defect(self, rng: np.random.Generator, angle: Wave) -> Wave:
        """Sound of a pit in the inner race, louder while it turns through the loaded zone.

        Source: P. D. McFadden, J. D. Smith, Model for the vibration produced by a single point defect in a rolling
        element bearing, JSV 96 (1984): load q (1 - (1 - cos t) / 2 e)^1.5 with e = 0.5.
        """
        places = events(angle, self.inner_per_turn, rng, jitter=SLIP)
        load = np.maximum(0.0, np.cos(2.0 * np.pi * np.interp(places, np.arange(len(angle)), angle))) ** 1.5
        return self.structure.ring(blows(len(angle), places, load * rng.lognormal(0.0, 0.2, len(places))))

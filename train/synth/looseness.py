"""Angle of a shaft in a loose mounting in, the rattle of it out."""

from __future__ import annotations

import numpy as np

from train.synth.machine import Wave
from train.synth.shaft import events
from train.synth.structure import Structure, blows


def rattle(rng: np.random.Generator, angle: Wave, structure: Structure, *, per_turn: float = 1.0) -> Wave:
    """Sound of a part that lifts and falls back: a blow a period, hard and soft in turn, some missed.

    The train of blows holds many harmonics of the rate; hard and soft in turn adds half orders.

    Source: A. Muszynska, P. Goldman, Chaotic responses of unbalanced rotor/bearing/stator systems with looseness or
    rubs, Chaos, Solitons & Fractals 5 (1995).
    """
    places = events(angle, per_turn, rng, jitter=0.03)
    alternating = np.where(np.arange(len(places)) % 2, 0.5, 1.0)
    strengths = alternating * rng.lognormal(0.0, 0.5, len(places)) * (rng.uniform(size=len(places)) > 0.15)
    return structure.ring(blows(len(angle), places, strengths))


def bounces(
    rng: np.random.Generator, places: Wave, first_gap_samples: float, restitution: float = 0.6, n_bounces: int = 5
) -> tuple[Wave, Wave]:
    """Places and strengths of the rebounds after blows: each gap and each strength is `restitution` of the one before.

    Source: a body that falls back under a constant force; the flight time is proportional to the rebound's speed.
    """
    powers = restitution ** np.arange(n_bounces)  # (n_bounces,)
    gaps = first_gap_samples * rng.uniform(0.8, 1.2, (len(places), 1)) * powers
    later = places[:, None] + np.cumsum(gaps, axis=1)  # (blows, n_bounces)
    return later.ravel(), np.broadcast_to(restitution * powers, later.shape).ravel()

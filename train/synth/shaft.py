"""Speed of a shaft in, its angle over time and the tones and events that are locked to it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from train.synth.machine import SAMPLE_RATE_HZ, Wave

Orders: TypeAlias = Sequence[float] | NDArray[np.number[Any]]

_KNOTS_HZ = 5.0
_HIGHEST_HZ = 0.47 * SAMPLE_RATE_HZ


def wander(rng: np.random.Generator, n_samples: int, knots_hz: float = _KNOTS_HZ) -> Wave:
    """A slow random course (n_samples,) of standard deviation about 1: what no control loop holds quite still."""
    n_knots = int(np.ceil(n_samples / SAMPLE_RATE_HZ * knots_hz)) + 4
    knots = np.convolve(rng.standard_normal(n_knots + 2), np.ones(3) / np.sqrt(3.0), mode="valid")
    places = np.arange(n_samples) * (knots_hz / SAMPLE_RATE_HZ)
    course: Wave = np.interp(places, np.arange(len(knots)), knots)
    return course


def turns(rng: np.random.Generator, speed_hz: float, n_samples: int, unsteadiness: float = 0.002) -> Wave:
    """Angle of a shaft in turns, (n_samples,), from a random start; its speed wanders by the share `unsteadiness`."""
    speed = speed_hz * (1.0 + unsteadiness * wander(rng, n_samples))
    return rng.uniform() + np.cumsum(speed) / SAMPLE_RATE_HZ


def tones(rng: np.random.Generator, angle: Wave, orders: Orders, amplitudes: Orders) -> Wave:
    """Sum of sines of a shaft's orders (multiples of its speed), (n_samples,), in random phase.

    Args:
        rng: of the phases.
        angle: (n_samples,) in turns.
        orders: (K,) periods a turn; those above the Nyquist frequency are left out.
        amplitudes: (K,)
    """
    highest_speed_hz = float(np.max(np.diff(angle))) * SAMPLE_RATE_HZ
    phases = rng.uniform(0.0, 2.0 * np.pi, len(orders))
    wave = np.zeros(len(angle))
    for order, amplitude, phase in zip(orders, amplitudes, phases, strict=True):
        if order * highest_speed_hz < _HIGHEST_HZ:
            wave += amplitude * np.sin(2.0 * np.pi * order * angle + phase)
    return wave


def events(angle: Wave, per_turn: float, rng: np.random.Generator, *, jitter: float = 0.0) -> NDArray[np.float64]:
    """Samples (fractional) at which something happens `per_turn` times a turn.

    jitter: standard deviation of each interval as a share of it. It adds up, as the slip of rolling elements does.

    Source: R. B. Randall, J. Antoni, Rolling element bearing diagnostics - a tutorial, MSSP 25 (2011), section 2.
    """
    phase = per_turn * (angle - angle[0])
    n_events = int(phase[-1] * (1.0 + 4.0 * jitter)) + 4
    steps = np.maximum(0.1, 1.0 + jitter * rng.standard_normal(n_events))
    due = rng.uniform() + np.cumsum(steps) - steps[0]
    places: Wave = np.interp(due[due < phase[-1]], phase, np.arange(len(angle), dtype=np.float64))
    return places


def passages(angle: Wave, offset: float = 0.0) -> NDArray[np.float64]:
    """Samples (fractional) at which a shaft passes the angle `offset` (in turns), once a turn."""
    whole = np.arange(np.ceil(angle[0] - offset), np.floor(angle[-1] - offset) + 1.0)
    places: Wave = np.interp(whole + offset, angle, np.arange(len(angle), dtype=np.float64))
    return places

"""Sliding speed in, the rubbing and the squeal of the contact out."""

from __future__ import annotations

import numpy as np

from train.synth.flow import turbulence
from train.synth.machine import SAMPLE_RATE_HZ, Wave
from train.synth.shaft import wander


def rubbing(rng: np.random.Generator, speed: Wave, peak_hz: float) -> Wave:
    """Noise of two rough surfaces, (n_samples,): its amplitude follows the sliding speed (1 is nominal) to the 0.8.

    Source: H. Ben Abdelounis and others, An experimental study on roughness noise of dry rubbing surfaces, Wear 268
    (2010): the level rises with the logarithm of the speed; the exponent within what is found there is our choice.
    """
    return turbulence(rng, len(speed), peak_hz, slope=1.8) * np.abs(speed) ** 0.8


def squeal(rng: np.random.Generator, gate: Wave, tone_hz: float) -> Wave:
    """Squeal of a contact that sticks and slips: a tone with harmonics as of a sawtooth while `gate` (0..1) is open.

    Source: A. Akay, Acoustics of friction, JASA 111 (2002), on stick-slip oscillation.
    """
    frequency_hz = tone_hz * (1.0 + 0.015 * wander(rng, len(gate), 12.0))
    phase = 2.0 * np.pi * np.cumsum(frequency_hz) / SAMPLE_RATE_HZ
    wave = np.zeros(len(gate))
    for number in range(1, 5):
        if number * tone_hz * 1.06 < 0.5 * SAMPLE_RATE_HZ:
            wave += np.sin(number * phase) / number
    return wave * gate


def gates(rng: np.random.Generator, n_samples: int, *, share: float, knots_hz: float = 4.0) -> Wave:
    """Open (1) and closed (0) in random turns, with soft edges; open about `share` of the time."""
    course = wander(rng, n_samples, knots_hz)
    threshold = float(np.quantile(course, 1.0 - min(1.0, max(0.0, share))))
    gate: Wave = 1.0 / (1.0 + np.exp(-(course - threshold) / 0.08))
    return gate

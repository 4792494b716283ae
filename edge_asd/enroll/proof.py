"""What was learned, as it was read back, and the model in; that it scores as it should, or why not, out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_asd.bundle import Bundle, Encoder, Memory
from edge_asd.bundle.extension import Extension
from edge_asd.enroll.remembering import RememberingScorer
from edge_asd.errors import BundleError, ClipError
from edge_asd.pipeline import Ear, Pipeline
from edge_asd.score import KnnScorer
from edge_asd.score.search import NearestNeighbours
from edge_asd.types import FloatArray, Window

_MAX_ABOVE = 0.05
_MAX_COPIES = 0.5
_PAIR_SHARE = 0.5  # of different recordings the nearest is seldom so much nearer than the second
_NOISE_MARGIN = 1.25  # two changes of each kind and two windows show most of the noise, not all


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the self-test found: scores of the bundle's golden windows, which are other machines or another time."""

    other_scores: tuple[float, ...]
    n_others_above: int


def prove(pipeline: Pipeline, bundle: Bundle, extension: Extension) -> Proof:
    """Score by what was read back from the disk.

    The memory must give each of its own vectors the lowest score there is, at most 1 in 20 of its held-out scores may
    be above its threshold, and the bundle's golden windows must have a score. Of clips, at most half may be copies of
    others: the encoder does not tell them apart better than the same sound a few samples later, or in a little noise.

    Raises:
        BundleError: one of these does not hold.
        ClipError: the clips are copies.
    """
    if extension.facts.clips:
        _check_copies(extension.memory, encoder_noise(pipeline, bundle, extension.memory.encoder))
    facts, calibration = extension.facts, extension.facts.calibration
    if calibration is None or calibration.fit.source is None:
        raise BundleError(f"{facts.machine}: what was learned has no calibration; expected one; enroll it again")
    scorer, threshold = KnnScorer(extension.memory, calibration.fit), calibration.threshold.threshold
    own = scorer.score_vectors(extension.memory.vectors)
    lowest = -calibration.fit.source.mean / calibration.fit.source.std
    if not np.allclose(own, lowest, rtol=1e-4, atol=1e-4):
        raise BundleError(
            f"{facts.machine}: the self-test fails: its own sound scores {own.min():.3f} to {own.max():.3f}; expected "
            f"{lowest:.3f}; enroll it again"
        )
    above = float((np.array(calibration.healthy_quantiles) >= threshold).mean())
    if above > _MAX_ABOVE:
        raise BundleError(
            f"{facts.machine}: the self-test fails: {above:.0%} of the sound that was learned is above its own "
            f"threshold {threshold:.2f}; expected 5 % at most; allow fewer false alarms "
            "(enroll.false_alarms_per_week)"
        )
    scores = []
    ear = pipeline.ear_with(scorer)
    for wave in bundle.golden.wave:
        scored = ear.score(_window(wave))
        if not math.isfinite(scored.score):
            raise BundleError(f"{facts.machine}: the self-test fails: a golden window of the bundle: {scored.fault}")
        scores.append(scored.score)
    return Proof(other_scores=tuple(scores), n_others_above=sum(score >= threshold for score in scores))


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How far a vector moves, with a margin, though it is the same sound.

    same: with white noise 60 and 40 dB below: for INT8 mostly the rounding. altered: 1 dB louder or quieter, or 50 ms
    later.
    """

    same: float
    altered: float


def encoder_noise(pipeline: Pipeline, bundle: Bundle, encoder: Encoder) -> Noise:
    """Measured on the bundle's golden windows.

    Raises:
        BundleError: a golden window has no vector.
    """
    remembering = RememberingScorer(encoder)
    ear = pipeline.ear_with(remembering)
    random = np.random.default_rng(0)
    same, altered = 0.0, 0.0
    for wave in bundle.golden.wave:
        noise = float(wave.std()) * random.standard_normal(wave.size)
        own = _vector(ear, remembering, wave)
        for each in (wave + 1e-3 * noise, wave - 1e-3 * noise, wave + 1e-2 * noise, wave - 1e-2 * noise):
            same = max(same, float(np.linalg.norm(_vector(ear, remembering, each) - own)))
        for each in (0.89 * wave, 1.12 * wave, np.roll(wave, pipeline.spec.sample_rate_hz // 20)):
            altered = max(altered, float(np.linalg.norm(_vector(ear, remembering, each) - own)))
    return Noise(same=_NOISE_MARGIN * same, altered=_NOISE_MARGIN * max(same, altered))


def _vector(ear: Ear, remembering: RememberingScorer, wave: NDArray[np.floating]) -> NDArray[np.float64]:
    scored = ear.score(_window(wave.astype(np.float32)))
    if scored.fault is not None or remembering.vector is None:
        raise BundleError(f"a golden window of the bundle has no vector: {scored.fault}; expected one")
    return remembering.vector.astype(np.float64)


def _check_copies(memory: Memory, noise: Noise) -> None:
    """Refuse sound of which more than half says the same twice.

    A window is a copy where no more than the encoder's noise lies between it and its nearest, or no more than another
    level does where the second nearest is far farther than that.
    """
    search = NearestNeighbours(memory.vectors)
    first, second = search.distances(memory.vectors, 2, query_group=memory.group, group=memory.group).T
    is_copy = (first <= noise.same) | ((first <= noise.altered) & (first <= _PAIR_SHARE * second))
    n_copies = int(np.count_nonzero(is_copy))
    if n_copies > _MAX_COPIES * len(memory):
        raise ClipError(
            f"{n_copies} of {len(memory)} windows are copies of others, as near to them as the same sound in another "
            f"level or cut (distance {noise.same:.3f} to {noise.altered:.3f}): the sound is all alike; expected "
            "recordings of different times; are clips given twice? a machine that always sounds the same is learned "
            "from the microphone"
        )


def _window(wave: FloatArray) -> Window:
    return Window(
        wave=wave,
        end_monotonic_s=0.0,
        end_utc_s=0.0,
        fresh_samples=wave.size,
        heard_samples=wave.size,
        lost_samples=0,
    )

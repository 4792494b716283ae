"""What was learned, as it was read back, and the model in; that it scores as it should, or why not, out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edge_asd.bundle import Bundle
from edge_asd.bundle.extension import Extension
from edge_asd.errors import BundleError
from edge_asd.pipeline import Pipeline
from edge_asd.score import KnnScorer
from edge_asd.types import Window

_MAX_ABOVE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the self-test found: scores of the bundle's golden windows, which are other machines or another time."""

    other_scores: tuple[float, ...]
    n_others_above: int


def prove(pipeline: Pipeline, bundle: Bundle, extension: Extension) -> Proof:
    """Score by what was read back from the disk.

    The memory must give each of its own vectors the lowest score there is, at most 1 in 20 of its held-out scores may
    be above its threshold, and the bundle's golden windows must have a score.

    Raises:
        BundleError: one of these does not hold.
    """
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
    for wave in bundle.golden.wave:
        window = Window(
            wave=wave,
            end_monotonic_s=0.0,
            end_utc_s=0.0,
            fresh_samples=wave.size,
            heard_samples=wave.size,
            lost_samples=0,
        )
        scored = pipeline.ear_with(scorer).score(window)
        if not math.isfinite(scored.score):
            raise BundleError(f"{facts.machine}: the self-test fails: a golden window of the bundle: {scored.fault}")
        scores.append(scored.score)
    return Proof(other_scores=tuple(scores), n_others_above=sum(score >= threshold for score in scores))

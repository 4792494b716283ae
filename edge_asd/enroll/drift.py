"""Scores of enrolled and of recent sound in, how far the machine has moved from what was learned out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIN_WINDOWS = 30
_DRIFT_SHARE = 0.3
_HIGH_SHARE = 0.1
_CHANCE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Recent sound beside the enrolled one.

    n: recent windows that do not overlap. enrolled_median, recent_median: of their scores. above_median, above_high,
    above_threshold: share of recent windows above the enrolled median (half, without drift), above the enrolled 90th
    percentile (a tenth), and above the threshold. has_drifted: None where too little was heard or enrolled to tell.
    verdict: for people.
    """

    n: int
    enrolled_median: float
    recent_median: float
    above_median: float
    above_high: float
    above_threshold: float
    has_drifted: bool | None
    verdict: str


def drift(recent: Sequence[float], healthy_quantiles: Sequence[float], threshold: float, *, n_enrolled: int) -> Drift:
    """Compare.

    Shares are compared rather than tested: windows of one hour are not independent, and a test that takes them for it
    finds drift in any long recording. But what few enrolled windows call their highest tenth may be far more of the
    machine's sound: a share that even independent windows would reach by chance is no drift.

    Args:
        recent: scores of recent windows.
        healthy_quantiles: 0th to 100th percentile of the enrolled scores.
        threshold: of the machine.
        n_enrolled: windows that the enrolled percentiles are of.

    Raises:
        ValueError: recent is empty.
    """
    scores = np.asarray(recent, dtype=np.float64)
    if not len(scores):
        raise ValueError("no recent scores; expected one or more")
    median, high = healthy_quantiles[50], healthy_quantiles[90]
    above_high = float((scores > high).mean())
    above_median = float((scores > median).mean())
    has_drifted: bool | None = above_high >= _DRIFT_SHARE
    if len(scores) < MIN_WINDOWS:
        has_drifted, verdict = None, f"{len(scores)} windows say nothing yet; expected {MIN_WINDOWS} or more"
    elif has_drifted and _may_be_chance(int((scores > high).sum()), len(scores), n_enrolled):
        has_drifted = None
        verdict = (
            f"{above_high:.0%} of recent windows lie where a tenth of the enrolled sound did, which {n_enrolled} "
            "enrolled windows may do by chance; add sound of the machine while it is well: edge-asd enroll --add"
        )
    elif has_drifted:
        verdict = (
            f"it has moved away: {above_high:.0%} of recent windows lie where a tenth of the enrolled sound did; look "
            "at the machine, and if it is well, add its sound: edge-asd enroll --add"
        )
    else:
        verdict = "it sounds as it was learned"
    return Drift(
        n=len(scores),
        enrolled_median=median,
        recent_median=float(np.median(scores)),
        above_median=above_median,
        above_high=above_high,
        above_threshold=float((scores >= threshold).mean()),
        has_drifted=has_drifted,
        verdict=verdict,
    )


def _may_be_chance(n_above: int, n_recent: int, n_enrolled: int) -> bool:
    """Whether so many of as many windows may lie above the highest tenth of those enrolled, if nothing changed.

    The share of all sound above the k-th highest of n windows has a Beta(k, n - k + 1) distribution, whatever theirs.
    """
    from scipy import stats  # noqa: PLC0415 - takes a second and 50 MB, which the daemon must not pay

    k = math.ceil(_HIGH_SHARE * (n_enrolled - 1)) + 1  # the 90th percentile is no lower than the k-th highest
    return bool(stats.betabinom.sf(n_above - 1, n_recent, k, n_enrolled - k + 1) > _CHANCE)

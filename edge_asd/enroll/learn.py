"""A memory of normal sound and a false-alarm target in, its calibration and what is remarkable about it out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_asd.bundle import KnnFit, Memory, Precision, Threshold
from edge_asd.bundle.extension import Calibration
from edge_asd.errors import ClipError, UsageError
from edge_asd.score import fit_memory
from edge_asd.score.search import NearestNeighbours
from edge_asd.threshold import DAY_S, Target, conformal_threshold, fit_tail

MIN_WINDOWS = 10
MIN_GROUPS = 5
WEEK_DAYS = 7.0

_COPY_SHARE = 1e-4
"""Two windows of which one lies within this share of the other's length are copies; the same engine gives 0."""

_MAX_COPIES = 0.5
_STRANGE_DEVIATIONS = 8.0
_NORMAL_DEVIATION = 1.4826  # of a normal distribution, in median absolute deviations
_LARGEST_UNIT_DISTANCE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What enrolled sound comes to.

    calibration: for the extension. scores: (n,) of each window against all others but those of its minute or clip.
    strange: (s,) rows of windows that are like no other, loudest strangers first: a door, a crane, a fault.
    """

    calibration: Calibration
    scores: NDArray[np.float64]
    strange: NDArray[np.intp]


def learn(memory: Memory, *, false_alarms_per_week: float, window_s: float, precision: Precision) -> Learned:
    """Calibrate a memory by its own sound, each window held out with all that was heard in its minute or clip.

    The threshold is conformal where one window of each minute or clip is enough for the target, which holds for any
    distribution; else it is extrapolated by a tail that is fitted to all of them, and says so.

    Raises:
        ClipError: too little sound, or all of it alike.
        UsageError: the target is none, or puts the threshold where no sound could reach it.

    Source: V. Vovk, Cross-conformal predictors (2015), here with one fold a minute or clip.
    """
    _check_enough(memory)
    distances = _held_out_distances(memory)
    fit = fit_memory(memory, memory)
    if fit.source is None:
        raise ValueError("the memory is of a target domain; expected one domain alone, the source")
    scores = (distances - fit.source.mean) / fit.source.std
    target = Target(false_alarms_per_day=false_alarms_per_week / WEEK_DAYS, window_s=window_s)
    threshold = _threshold(scores, memory.group, target, precision)
    _check_reachable(threshold, fit, memory)
    quantiles = tuple(float(each) for each in np.quantile(scores, np.linspace(0.0, 1.0, 101)))
    return Learned(
        calibration=Calibration(fit=fit, threshold=threshold, healthy_quantiles=quantiles),
        scores=scores,
        strange=_strange(scores),
    )


def _check_enough(memory: Memory) -> None:
    n_groups = len(np.unique(memory.group))
    if len(memory) < MIN_WINDOWS or n_groups < MIN_GROUPS:
        raise ClipError(
            f"{len(memory)} windows of {n_groups} different minutes or clips were fit to be learned; expected at least "
            f"{MIN_WINDOWS} of {MIN_GROUPS}: from fewer nobody can say how much healthy sound differs; enroll longer, "
            "or give more clips"
        )


def _held_out_distances(memory: Memory) -> NDArray[np.float64]:
    neighbours = NearestNeighbours(memory.vectors)
    nearest = neighbours.distances(memory.vectors, 1, query_group=memory.group, group=memory.group)  # (n, 1)
    distances: NDArray[np.float64] = nearest[:, 0]
    length = np.linalg.norm(memory.vectors, axis=1)
    copies = distances <= _COPY_SHARE * length
    if copies.mean() > _MAX_COPIES:
        raise ClipError(
            f"{np.count_nonzero(copies)} of {len(memory)} windows are copies of one that was heard at another time: "
            "the sound is all alike; expected sound of a machine at work, which never repeats; are the clips copies of "
            "one, or does a recording play?"
        )
    return distances


def _threshold(
    scores: NDArray[np.float64], group: NDArray[np.int64], target: Target, precision: Precision
) -> Threshold:
    _, first = np.unique(group, return_index=True)
    independent = scores[first]
    shown = target.per_day(WEEK_DAYS / (len(independent) + 1))
    if len(independent) + 1 >= 1.0 / target.alpha:
        limit, method, n_pooled = conformal_threshold(independent, target.alpha), "conformal", len(independent)
        note = f"conformal over {len(independent)} minutes or clips, one window each; holds for any distribution"
    else:
        tail = fit_tail("", {"": scores}, {})
        limit, method, n_pooled = tail.quantile(target.alpha), tail.method, tail.n_clips
        needed_h = (1.0 / target.alpha - 1.0) * DAY_S / target.windows_per_day / 3_600.0
        note = (
            f"extrapolated: {tail.note} (windows); {len(independent)} minutes or clips alone show rates down to "
            f"{shown} a week, and the target needs {needed_h:.0f} h of independent windows"
        )
    return Threshold.model_validate(
        {
            "threshold": limit,
            "target_false_alarms_per_day": target.false_alarms_per_day,
            "alpha": target.alpha,
            "method": method,
            "n_clips": len(independent),
            "n_clips_pooled": n_pooled,
            "extrapolated": method != "conformal",
            "precision": precision,
            "note": note,
        }
    )


def _check_reachable(threshold: Threshold, fit: KnnFit, memory: Memory) -> None:
    if memory.encoder.layer != "embedding" or fit.source is None:
        return
    highest = (_LARGEST_UNIT_DISTANCE - fit.source.mean) / fit.source.std
    if threshold.threshold >= highest:
        raise UsageError(
            f"the threshold would be {threshold.threshold:.1f} ({threshold.note}), and no sound can score more than "
            f"{highest:.1f}: no fault would raise an alarm; enroll more sound, or allow more false alarms "
            "(enroll.false_alarms_per_week)"
        )


def _strange(scores: NDArray[np.float64]) -> NDArray[np.intp]:
    median = np.median(scores)
    deviation = _NORMAL_DEVIATION * float(np.median(np.abs(scores - median)))
    rows = np.flatnonzero(scores > median + _STRANGE_DEVIATIONS * max(deviation, 1e-9))
    order: NDArray[np.intp] = rows[np.argsort(-scores[rows])]
    return order

"""A memory of normal sound and a false-alarm target in, its calibration and what is remarkable about it out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_asd.bundle import KnnFit, Memory, Precision, Threshold
from edge_asd.bundle.extension import MAX_WINDOWS, Calibration
from edge_asd.enroll.collector import GROUP_S
from edge_asd.errors import ClipError, UsageError
from edge_asd.score import fit_memory
from edge_asd.score.search import NearestNeighbours
from edge_asd.threshold import Target, conformal_threshold, fit_tail

GroupName: TypeAlias = Literal["minutes", "clips", "minutes or clips"]

MIN_WINDOWS = 10
MIN_GROUPS = 5
WEEK_DAYS = 7.0

_COPY_SHARE = 1e-4
"""Two windows of which one lies within this share of the other's length are copies; the same engine gives 0."""

_MAX_COPIES = 0.5
_STRANGE_DEVIATIONS = 8.0
_NORMAL_DEVIATION = 1.4826  # of a normal distribution, in median absolute deviations
_UNRELATED_DISTANCE = math.sqrt(2.0)  # of vectors of unit length at right angles
_NEIGHBOURHOOD = 1  # groups on either side that a window is held out with
_MAX_CORRELATION_DEVIATIONS = 2.33  # one in a hundred by chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What enrolled sound comes to.

    calibration: for the extension. scores: (n,) of each window against all others but those of its minute or clip and
    of the minutes beside it.
    strange: (s,) rows of windows that are like no other, loudest strangers first: a door, a crane, a fault.
    """

    calibration: Calibration
    scores: NDArray[np.float64]
    strange: NDArray[np.intp]


class UnreachableError(UsageError):
    """The threshold would lie where no sound could reach it.

    strange: (s,) rows of windows that are like no other and may be why, loudest strangers first.
    """

    def __init__(self, text: str, strange: NDArray[np.intp]) -> None:
        super().__init__(text)
        self.strange = strange


def is_too_little(memory: Memory) -> bool:
    """Whether more has to be heard before anything can be learned."""
    return len(memory) < MIN_WINDOWS or len(np.unique(memory.group)) < MIN_GROUPS


def learn(
    memory: Memory,
    *,
    false_alarms_per_week: float,
    window_s: float,
    precision: Precision,
    groups: GroupName = "minutes or clips",
) -> Learned:
    """Calibrate a memory by its own sound, each window held out with its minute and those beside it, or with its clip.

    The threshold is conformal where the middle window of each minute or clip is enough for the target, which holds for
    any distribution of scores as long as minutes are exchangeable. Where they are too few, or the scores of minutes
    beside each other correlate, it is extrapolated by a tail that is fitted to all windows, and says so.

    Args:
        memory: of one domain; groups are minutes or clips, with consecutive numbers for minutes that follow each other
            and no others.
        false_alarms_per_week: the target.
        window_s: length of a window.
        precision: of the network.
        groups: what they are, for people.

    Raises:
        ClipError: too little sound, or all of it alike.
        UsageError: the target is none.
        UnreachableError: it puts the threshold where no sound could reach it.

    Source: V. Vovk, Cross-conformal predictors (2015), here with one fold a minute or clip.
    """
    if is_too_little(memory):
        raise ClipError(
            f"{len(memory)} windows of {len(np.unique(memory.group))} different minutes or clips were fit to be "
            f"learned; expected at least {MIN_WINDOWS} of {MIN_GROUPS}: from fewer nobody can say how much healthy "
            "sound differs; enroll longer, or give more clips"
        )
    distances = _held_out_distances(memory)
    fit = fit_memory(memory, memory)
    if fit.source is None:
        raise ValueError("the memory is of a target domain; expected one domain alone, the source")
    scores = (distances - fit.source.mean) / fit.source.std
    target = Target(false_alarms_per_day=false_alarms_per_week / WEEK_DAYS, window_s=window_s)
    threshold = _threshold(scores, memory.group, target, precision, groups)
    strange = _strange(scores)
    _check_reachable(threshold, fit, strange)
    quantiles = tuple(float(each) for each in np.quantile(scores, np.linspace(0.0, 1.0, 101)))
    return Learned(
        calibration=Calibration(fit=fit, threshold=threshold, healthy_quantiles=quantiles),
        scores=scores,
        strange=strange,
    )


def _held_out_distances(memory: Memory) -> NDArray[np.float64]:
    neighbours = NearestNeighbours(memory.vectors)
    nearest = neighbours.distances(
        memory.vectors, 1, query_group=memory.group, group=memory.group, n_beside=_NEIGHBOURHOOD
    )  # (n, 1)
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
    scores: NDArray[np.float64], group: NDArray[np.int64], target: Target, precision: Precision, groups: GroupName
) -> Threshold:
    middle = _middle_rows(group)
    independent = scores[middle]
    correlation, is_by_chance = _neighbours_correlation(independent, group[middle])
    is_enough = len(independent) >= _n_needed(target)
    if is_enough and is_by_chance:
        limit, method, n_pooled = conformal_threshold(independent, target.alpha), "conformal", len(independent)
        note = f"conformal over {len(independent)} {groups}, one window each; holds for exchangeable minutes"
    else:
        tail = fit_tail("", {"": scores}, {})
        limit, method, n_pooled = tail.quantile(target.alpha), tail.method, tail.n_clips
        note = f"extrapolated: {tail.note} (windows)"
        if not is_enough:
            note += f"; {_shortage(group, target, groups)}"
        if not is_by_chance:
            note += (
                f"; scores of neighbouring minutes correlate ({correlation:.2f}): the sound changes slowly, and fresh "
                "sound may be above the threshold far more often"
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


def _n_needed(target: Target) -> int:
    """Minutes or clips, of which one window each is independent, from which on the target need not be extrapolated."""
    return math.ceil((1.0 - 1e-12) / target.alpha) - 1


def _shortage(group: NDArray[np.int64], target: Target, groups: GroupName) -> str:
    """What so many minutes or clips show by themselves, what the target takes, and whether a memory can hold that."""
    n_windows = np.unique(group, return_counts=True)[1]
    n_most = int(MAX_WINDOWS / np.median(n_windows))
    n_needed = _n_needed(target)
    hours = f" ({n_needed * GROUP_S / 3_600.0:,.0f} h)" if groups == "minutes" else ""
    text = (
        f"{len(n_windows)} {groups}, one window each, show rates down to {_weekly_rate(len(n_windows), target):,} a "
        f"week, and the target takes {n_needed:,}{hours}"
    )
    if n_needed <= n_most:
        return text
    return (
        f"{text}, more than the {n_most:,} like these that a memory holds: below "
        f"{_weekly_rate(n_most, target):,} a week every threshold is extrapolated"
    )


def _weekly_rate(n_independent: int, target: Target) -> int:
    """The lowest number of false alarms a week that so many independent windows show."""
    return math.ceil(WEEK_DAYS * target.windows_per_day / (n_independent + 1))


def _middle_rows(group: NDArray[np.int64]) -> NDArray[np.intp]:
    """The row in the middle of each group, in the order of the groups: the farthest from what is before and after."""
    order = np.argsort(group, kind="stable")
    _, first, count = np.unique(group[order], return_index=True, return_counts=True)
    rows: NDArray[np.intp] = order[first + count // 2]
    return rows


def _neighbours_correlation(scores: NDArray[np.float64], group: NDArray[np.int64]) -> tuple[float, bool]:
    """Rank correlation of the scores of groups beside each other, and whether chance alone may make it so high."""
    is_beside = np.diff(group) == 1
    if np.count_nonzero(is_beside) < MIN_GROUPS:
        return 0.0, True
    ranks = np.argsort(np.argsort(scores, kind="stable"), kind="stable")
    before, after = ranks[:-1][is_beside], ranks[1:][is_beside]
    correlation = float(np.corrcoef(before, after)[0, 1])
    return correlation, correlation * math.sqrt(len(before)) < _MAX_CORRELATION_DEVIATIONS


def _check_reachable(threshold: Threshold, fit: KnnFit, strange: NDArray[np.intp]) -> None:
    if fit.source is None:
        return
    highest = (_UNRELATED_DISTANCE - fit.source.mean) / fit.source.std
    if threshold.threshold < highest:
        return
    raise UnreachableError(
        f"the threshold would be {threshold.threshold:.1f} ({threshold.note}), and sound that has nothing in common "
        f"with the machine's scores {highest:.1f}: no fault would raise an alarm; enroll more sound, leave out what is "
        "not the machine's, or allow more false alarms (enroll.false_alarms_per_week)",
        strange,
    )


def _strange(scores: NDArray[np.float64]) -> NDArray[np.intp]:
    median = np.median(scores)
    deviation = _NORMAL_DEVIATION * float(np.median(np.abs(scores - median)))
    rows = np.flatnonzero(scores > median + _STRANGE_DEVIATIONS * max(deviation, 1e-9))
    order: NDArray[np.intp] = rows[np.argsort(-scores[rows])]
    return order

"""Scores of healthy clips and a false-alarm target in, a threshold a class out, with how far it can be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from edge_asd.bundle import Precision, Threshold
from edge_asd.errors import UsageError
from edge_asd.score import MarginScorer
from edge_asd.types import FloatArray

Scores: TypeAlias = NDArray[np.float64]
Method: TypeAlias = Literal["genpareto", "gamma", "student_t", "student_t_pooled"]

DAY_S = 86_400
# Ten excesses over the 90th percentile are the least to fit a tail on; below thirty clips a gamma's shape is guesswork.
MIN_CLIPS_GENPARETO = 100
MIN_CLIPS_GAMMA = 30
# Below it, the spread of one class's clips says less than the spread about their own means of all classes together.
MIN_CLIPS_STUDENT_T = 6
# With fewer degrees of freedom left by the classes' own means, a variance is not to be trusted.
MIN_FREEDOM = 3
_TAIL_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """How many false alarms a class may raise a day, were its windows independent and each its own alarm."""

    false_alarms_per_day: float
    window_s: float

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 0.5:
            raise UsageError(
                f"{self.false_alarms_per_day:g} false alarms a day is no target; expected more than 0 and fewer than "
                f"{self.windows_per_day / 2:g}, half of the windows of {self.window_s:g} s in a day"
            )

    @property
    def windows_per_day(self) -> float:
        """Windows that do not overlap."""
        return DAY_S / self.window_s

    @property
    def alpha(self) -> float:
        """The share of healthy windows that may score above the threshold."""
        return self.false_alarms_per_day / self.windows_per_day

    def per_day(self, alpha: float) -> str:
        """What a share of windows comes to a day, for people."""
        return f"{alpha * self.windows_per_day:.3g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """A fitted distribution of healthy scores: quantile maps alpha to a score, exceedance a score to alpha."""

    method: Method
    n_clips: int
    quantile: Callable[[float], float]
    exceedance: Callable[[float], float]
    note: str


def fit_thresholds(
    scores: Mapping[str, FloatArray],
    target: Target,
    *,
    trained_scores: Mapping[str, FloatArray],
    ceilings: Mapping[str, float],
    precision: Precision,
) -> dict[str, Threshold]:
    """Fit a threshold for every class that has scores.

    Split-conformal where the clips are enough for the target, which holds for any distribution: at least 1 / alpha - 1.
    Below that a fitted tail, marked extrapolated: generalized Pareto over the top decile, gamma, or for a handful of
    clips the upper prediction limit of Student's t. Where a class has very few, the variance about the classes' own
    means is pooled; where even that is little, with that of the clips trained on, whose means are not used.

    Args:
        scores: of healthy clips that were not trained on, one window a clip, by class.
        target: what is asked for.
        trained_scores: of healthy clips that were trained on, by class; only their spread is used, if any.
        ceilings: by class, the score of a sound that the network takes wholly for another class; see `score_ceiling`.
        precision: of the model that gave the scores.

    Raises:
        UsageError: a threshold would lie where no fault could reach it, or there are fewer than two clips in all.

    Source: V. Vovk et al., Algorithmic Learning in a Random World (2005), for split-conformal; S. Coles, An
    Introduction to Statistical Modeling of Extreme Values (2001), for the tail; G. Hahn and W. Meeker, Statistical
    Intervals (1991), for the prediction limit.
    """
    values: dict[str, Scores] = {name: np.sort(found.astype(np.float64)) for name, found in scores.items()}
    trained = {name: found.astype(np.float64) for name, found in trained_scores.items()}
    thresholds: dict[str, Threshold] = {}
    unreachable: list[str] = []
    for class_name, own in values.items():
        if len(own) + 1 >= 1.0 / target.alpha:
            limit, tail = conformal_threshold(own, target.alpha), None
            note = f"split-conformal over {len(own)} healthy clips; holds for any distribution of their scores"
        else:
            tail = fit_tail(class_name, values, trained)
            limit, ceiling = tail.quantile(target.alpha), ceilings[class_name]
            note = (
                f"{tail.note}; {_clips(len(own))} alone show rates down to {target.per_day(1 / (len(own) + 1))} a day"
            )
            if limit >= ceiling:
                unreachable.append(
                    f"{class_name}: {limit:.1f} ({note}) is not below {ceiling:.1f}, which a sound taken wholly for "
                    f"another class scores; a target above {target.per_day(tail.exceedance(ceiling))} a day is"
                )
        thresholds[class_name] = Threshold(
            threshold=limit,
            target_false_alarms_per_day=target.false_alarms_per_day,
            alpha=target.alpha,
            method=tail.method if tail else "conformal",
            n_clips=len(own),
            n_clips_pooled=tail.n_clips if tail else len(own),
            extrapolated=tail is not None,
            precision=precision,
            note=note,
        )
    if unreachable:
        raise UsageError(
            f"{target.false_alarms_per_day:g} false alarms a day puts thresholds where no fault would raise an alarm:\n"
            + "\n".join(unreachable)
            + "\nadd healthy clips that were not trained on, or allow more false alarms (--false-alarms-per-day)"
        )
    return thresholds


def conformal_threshold(scores: Scores, alpha: float) -> float:
    """The lowest threshold above which (1 + #{scores >= s}) / (n + 1) <= alpha.

    Raises:
        ValueError: fewer than 1 / alpha - 1 scores.
    """
    n_above = math.floor(alpha * (len(scores) + 1) * (1 + 1e-12)) - 1
    if n_above < 0:
        raise ValueError(f"{len(scores)} scores for alpha {alpha}; expected at least {1 / alpha - 1:.0f}")
    return float(np.sort(scores)[::-1][n_above])


def fit_tail(class_name: str, scores: Mapping[str, Scores], trained: Mapping[str, Scores]) -> Tail:
    """The distribution of one class's healthy scores that its number of clips can carry.

    Raises:
        UsageError: fewer than two clips of all classes.
    """
    own = scores[class_name]
    if len(own) >= MIN_CLIPS_GENPARETO:
        return _genpareto(own)
    if len(own) >= MIN_CLIPS_GAMMA:
        return _gamma(own)
    if len(own) >= MIN_CLIPS_STUDENT_T:
        note = f"upper prediction limit of Student's t over {len(own)} clips"
        return _student_t(
            "student_t", len(own), mean=own.mean(), spread=own.std(ddof=1), n=len(own), freedom=len(own) - 1, note=note
        )
    return _student_t_pooled(class_name, scores, trained)


def score_ceiling(class_cosine: FloatArray, class_index: int, scorer: MarginScorer) -> float:
    """The highest score of a sound whose embedding is exactly another class's weight.

    class_cosine: (classes, classes) float32, cosines between the class weights. A fault seldom scores higher, since
    scores are bounded by the angles between the classes: a threshold above it would never be crossed.
    """
    others = np.delete(class_cosine, class_index, axis=0)  # (classes - 1, classes)
    return float(scorer.score(others, class_index).max())


def _genpareto(own: Scores) -> Tail:
    start = float(np.quantile(own, 1.0 - _TAIL_SHARE))
    excesses = own[own > start] - start
    share = len(excesses) / len(own)
    shape, _, scale = stats.genpareto.fit(excesses, floc=0.0)
    if shape < 0.0:
        # A tail that ends, fitted on few excesses, ends at the highest clip: the exponential is the lightest trusted.
        shape, scale = 0.0, float(excesses.mean())
    fitted = stats.genpareto(shape, loc=start, scale=scale)
    return Tail(
        method="genpareto",
        n_clips=len(own),
        quantile=lambda alpha: float(fitted.isf(alpha / share)),
        exceedance=lambda score: float(fitted.sf(score) * share),
        note=f"generalized Pareto (shape {shape:.2f}) over the {len(excesses)} highest of {len(own)} clips",
    )


def _gamma(own: Scores) -> Tail:
    # A gamma begins at a lowest value. A spread below the lowest score keeps the shape off the one lowest clip.
    start = float(own.min() - own.std(ddof=1))
    shape, _, scale = stats.gamma.fit(own, floc=start)
    return _continuous("gamma", len(own), stats.gamma(shape, loc=start, scale=scale), f"gamma over {len(own)} clips")


def _student_t_pooled(class_name: str, scores: Mapping[str, Scores], trained: Mapping[str, Scores]) -> Tail:
    own, fresh = scores[class_name], list(scores.values())
    groups, borrowed, caveat = fresh, "", ""
    if _freedom(fresh) < MIN_FREEDOM:
        groups = [*fresh, *(values for values in trained.values() if len(values))]
        borrowed = ", those trained on included,"
        caveat = "; clips trained on differ less among themselves than fresh ones, so the limit is optimistic"
    freedom, total = _freedom(groups), sum(map(len, groups))
    if freedom >= MIN_FREEDOM:
        squares = sum(((values - values.mean()) ** 2).sum() for values in groups)
        note = (
            f"upper prediction limit of Student's t about the mean of {_clips(len(own))}, with the spread pooled "
            f"over {total} clips of {len(scores)} classes{borrowed} about their own means ({freedom} degrees of "
            f"freedom){caveat}"
        )
        spread = math.sqrt(squares / freedom)
        return _student_t(
            "student_t_pooled", total, mean=own.mean(), spread=spread, n=len(own), freedom=freedom, note=note
        )
    together = np.concatenate(fresh)
    if len(together) < 2:
        raise UsageError(
            f"1 healthy clip that was not trained on, of {class_name}; expected 2 or more: one clip shows no spread; "
            "add healthy clips"
        )
    note = (
        f"upper prediction limit of Student's t over {len(together)} clips of {len(scores)} classes taken as of one "
        f"({len(together) - 1} degrees of freedom), since so few show no spread of each class"
    )
    return _student_t(
        "student_t_pooled",
        len(together),
        mean=together.mean(),
        spread=together.std(ddof=1),
        n=len(together),
        freedom=len(together) - 1,
        note=note,
    )


def _clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count} clips"


def _freedom(groups: Sequence[Scores]) -> int:
    """Degrees of freedom left when every group has its own mean."""
    return sum(len(values) - 1 for values in groups)


def _student_t(
    method: Literal["student_t", "student_t_pooled"],
    n_clips: int,
    *,
    mean: float,
    spread: float,
    n: int,
    freedom: int,
    note: str,
) -> Tail:
    """The limit that one further window exceeds with probability alpha: mean + t * spread * sqrt(1 + 1/n)."""
    if not spread > 0.0:
        raise UsageError(f"{n_clips} healthy clips that all score {mean:g}; expected different clips; are they copies?")
    return _continuous(method, n_clips, stats.t(freedom, loc=mean, scale=spread * math.sqrt(1.0 + 1.0 / n)), note)


def _continuous(method: Method, n_clips: int, distribution: Any, note: str) -> Tail:
    return Tail(
        method=method,
        n_clips=n_clips,
        quantile=lambda alpha: float(distribution.isf(alpha)),
        exceedance=lambda score: float(distribution.sf(score)),
        note=note,
    )

"""Scores of healthy sound and a false-alarm target in, the threshold that keeps it out, and how far it is trusted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_asd.errors import UsageError

Scores: TypeAlias = NDArray[np.float64]
Method: TypeAlias = Literal["genpareto", "student_t", "student_t_pooled"]

DAY_S = 86_400
# Below it, ten excesses are most of the clips, and no tail any more.
MIN_CLIPS_GENPARETO = 30
# Below it, the spread of one class's clips says less than the spread about their own means of all classes together.
MIN_CLIPS_STUDENT_T = 6
# With fewer degrees of freedom left by the classes' own means, a variance is not to be trusted.
MIN_FREEDOM = 3
_TAIL_SHARE = 0.1
_MIN_EXCESSES = 10
_SHAPE_WEIGHT = 100.0
"""Excesses that say as much of the shape as does what is known ahead of them: 0, give or take 0.1."""

_MAX_SHAPE = 0.5  # from there on the variance would be infinite


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
    if len(own) >= MIN_CLIPS_STUDENT_T:
        note = f"upper prediction limit of Student's t over {len(own)} clips"
        return _student_t(
            "student_t", len(own), mean=own.mean(), spread=own.std(ddof=1), n=len(own), freedom=len(own) - 1, note=note
        )
    return _student_t_pooled(class_name, scores, trained)


def _genpareto(own: Scores) -> Tail:
    """The highest tenth, or ten where that is more, by L-moments with the shape drawn towards the exponential's.

    A free shape on few excesses, extrapolated thousands of times beyond them, is anything: of 180 exponential scores it
    put one threshold in twenty at eight times the true one, where nothing is heard any more. Drawn towards 0 by
    100 / (excesses + 100), it is free where the clips are thousands. Of true thresholds at one in 60,480, from the 5th
    to the 95th percentile over draws of 30 to 5,000 clips: exponential 0.5 to 1.7 times, gamma (shape 9) 0.7 to 2.2,
    normal 0.8 to 2.6, Student's t with 5 degrees 0.3 to 1.2, lognormal (0.5) 0.4 to 1.5. The median errs on the side
    of silence for a normal tail (1.7 times at 30 clips, 1.3 from 100 on), and of alarms for Student's t (0.6 to 0.8).

    Source: J. Hosking, L-moments (1990); E. Martins and J. Stedinger, Generalized maximum-likelihood (2000), for
    knowledge of the shape ahead of the data.
    """
    n_excesses = max(round(_TAIL_SHARE * len(own)), _MIN_EXCESSES)
    ranked = np.sort(own)
    start = float(ranked[-n_excesses - 1])
    excesses = ranked[-n_excesses:] - start
    mean = float(excesses.mean())
    if not mean > 0.0:
        raise UsageError(
            f"the {n_excesses + 1} highest of {len(own)} healthy clips all score {start:g}; expected different clips; "
            "are they copies?"
        )
    second = float((2.0 * np.arange(n_excesses) / (n_excesses - 1.0) - 1.0) @ excesses) / n_excesses  # L-moment
    # A tail that ends, fitted on few excesses, ends at the highest clip: the exponential is the lightest trusted.
    weight = n_excesses / (n_excesses + _SHAPE_WEIGHT)
    shape = float(np.clip(weight * (2.0 - mean / max(second, 1e-9 * mean)), 0.0, _MAX_SHAPE))
    share = n_excesses / len(own)
    fitted = _stats().genpareto(shape, loc=start, scale=mean * (1.0 - shape))
    return Tail(
        method="genpareto",
        n_clips=len(own),
        quantile=lambda alpha: float(fitted.isf(alpha / share)),
        exceedance=lambda score: float(fitted.sf(score) * share),
        note=f"generalized Pareto (shape {shape:.2f}) over the {n_excesses} highest of {len(own)} clips",
    )


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
            f"upper prediction limit of Student's t about the mean of {clips(len(own))}, with the spread pooled "
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


def clips(count: int) -> str:
    """That many clips, for people."""
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
    return _continuous(method, n_clips, _stats().t(freedom, loc=mean, scale=spread * math.sqrt(1.0 + 1.0 / n)), note)


def _continuous(method: Method, n_clips: int, distribution: Any, note: str) -> Tail:
    return Tail(
        method=method,
        n_clips=n_clips,
        quantile=lambda alpha: float(distribution.isf(alpha)),
        exceedance=lambda score: float(distribution.sf(score)),
        note=note,
    )


def _stats() -> Any:
    """scipy.stats, when something is fitted."""
    from scipy import stats  # noqa: PLC0415 - takes a second and 50 MB, which a daemon that fits nothing must not pay

    return stats

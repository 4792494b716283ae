"""Scores of healthy clips and a false-alarm target in, a threshold a class out, with how far it can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from edge_asd.bundle import Precision, Threshold
from edge_asd.errors import UsageError
from edge_asd.score import MarginScorer
from edge_asd.threshold import Scores, Target, clips, conformal_threshold, fit_tail
from edge_asd.types import FloatArray, ScorerName

_HIGHEST_SCORED: Mapping[ScorerName, str] = {
    "margin": "a sound taken wholly for another class",
    "knn": "a sound at right angles to all healthy ones",
    "fusion": "a sound taken wholly for another class and at right angles to all healthy ones",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What became of the classes that have scores.

    scorer: whose scores. target: what was asked for. thresholds: by class. refused: by class, why it has none.
    """

    scorer: ScorerName
    target: Target
    thresholds: dict[str, Threshold]
    refused: dict[str, str]

    def with_all_of(self, needed: Collection[str], say: Callable[[str], None]) -> dict[str, Threshold]:
        """The thresholds, by class, where every class that needs one has one.

        Args:
            needed: classes that are scored by this scorer.
            say: is told which of the others have none.

        Raises:
            UsageError: one of those that need a threshold was refused it.
        """
        missed = [f"{class_name}: {reason}" for class_name, reason in self.refused.items() if class_name in needed]
        if missed:
            raise UsageError(
                f"no threshold of the scorer {self.scorer} for {self.target.false_alarms_per_day:g} false alarms a "
                "day:\n" + "\n".join(missed) + "\nadd healthy clips that were not trained on, allow more false alarms "
                "(--false-alarms-per-day), or choose another scorer (--scorer TYPE/ID=KIND)"
            )
        for class_name, reason in self.refused.items():
            say(f"no threshold of the scorer {self.scorer}, which devices may not choose then: {class_name}: {reason}")
        return self.thresholds


def fit_thresholds(
    scores: Mapping[str, FloatArray],
    target: Target,
    *,
    scorer: ScorerName,
    trained_scores: Mapping[str, FloatArray],
    ceilings: Mapping[str, float],
    precision: Precision,
) -> Fitted:
    """Fit a threshold for every class that has scores; refused where no fault could reach it or clips show no spread.

    Split-conformal where the clips are enough for the target, which holds for any distribution: at least 1 / alpha - 1.
    Below that a fitted tail, marked extrapolated: generalized Pareto over the highest clips, or for a handful of
    clips the upper prediction limit of Student's t. Where a class has very few, the variance about the classes' own
    means is pooled; where even that is little, with that of the clips trained on, whose means are not used.

    Args:
        scores: of healthy clips that were not trained on, one window a clip, by class.
        target: what is asked for.
        scorer: that gave the scores.
        trained_scores: of healthy clips that were trained on, by class; only their spread is used, if any.
        ceilings: by class, the highest score that a fault is taken to have; see `score_ceiling`, `ClassScores.ceiling`.
        precision: of the model that gave the scores.

    Source: V. Vovk et al., Algorithmic Learning in a Random World (2005), for split-conformal; S. Coles, An
    Introduction to Statistical Modeling of Extreme Values (2001), for the tail; G. Hahn and W. Meeker, Statistical
    Intervals (1991), for the prediction limit.
    """
    values: dict[str, Scores] = {name: np.sort(found.astype(np.float64)) for name, found in scores.items()}
    trained = {name: found.astype(np.float64) for name, found in trained_scores.items()}
    thresholds: dict[str, Threshold] = {}
    refused: dict[str, str] = {}
    for class_name, own in values.items():
        if len(own) + 1 >= 1.0 / target.alpha:
            limit, tail = conformal_threshold(own, target.alpha), None
            note = f"split-conformal over {len(own)} healthy clips; holds for any distribution of their scores"
        else:
            try:
                tail = fit_tail(class_name, values, trained)
            except UsageError as error:
                refused[class_name] = str(error)
                continue
            limit, ceiling = tail.quantile(target.alpha), ceilings[class_name]
            note = f"{tail.note}; {clips(len(own))} alone show rates down to {target.per_day(1 / (len(own) + 1))} a day"
            if limit >= ceiling:
                refused[class_name] = (
                    f"{limit:.1f} ({note}) is not below {ceiling:.1f}, which {_HIGHEST_SCORED[scorer]} scores: no "
                    f"fault would raise an alarm; that of a target above {target.per_day(tail.exceedance(ceiling))} a "
                    "day is"
                )
                continue
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
    return Fitted(scorer=scorer, target=target, thresholds=thresholds, refused=refused)


def score_ceiling(class_cosine: FloatArray, class_index: int, scorer: MarginScorer) -> float:
    """The highest score of a sound whose embedding is exactly another class's weight.

    class_cosine: (classes, classes) float32, cosines between the class weights. A fault seldom scores higher, since
    scores are bounded by the angles between the classes: a threshold above it would never be crossed.
    """
    others = np.delete(class_cosine, class_index, axis=0)  # (classes - 1, classes)
    return float(scorer.score(others, class_index).max())

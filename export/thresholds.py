"""Scores of healthy clips and a false-alarm target in, a threshold a class out, with how far it can be trusted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge_asd.bundle import Precision, Threshold
from edge_asd.errors import UsageError
from edge_asd.score import MarginScorer
from edge_asd.threshold import Scores, Target, clips, conformal_threshold, fit_tail
from edge_asd.types import FloatArray


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
    Below that a fitted tail, marked extrapolated: generalized Pareto over the highest clips, or for a handful of
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
            note = f"{tail.note}; {clips(len(own))} alone show rates down to {target.per_day(1 / (len(own) + 1))} a day"
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


def score_ceiling(class_cosine: FloatArray, class_index: int, scorer: MarginScorer) -> float:
    """The highest score of a sound whose embedding is exactly another class's weight.

    class_cosine: (classes, classes) float32, cosines between the class weights. A fault seldom scores higher, since
    scores are bounded by the angles between the classes: a threshold above it would never be crossed.
    """
    others = np.delete(class_cosine, class_index, axis=0)  # (classes - 1, classes)
    return float(scorer.score(others, class_index).max())

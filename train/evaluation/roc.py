"""Anomaly scores and labels in; ROC curve, area and partial area out, for many weightings of the clips at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_FPR = 0.1
"""False-positive rate up to which the partial area counts, as in DCASE Task 2."""

_WEIGHTINGS_AT_ONCE = 64  # bounds the memory: each takes some arrays of the length of the scores

FloatVector = NDArray[np.float64]


def roc_curve(
    scores: NDArray[np.floating], is_anomaly: NDArray[np.bool_], weights: FloatVector | None = None
) -> tuple[FloatVector, FloatVector]:
    """False- and true-positive rates from (0, 0) to (1, 1), of each weighting: (R, thresholds + 1) each.

    Args:
        scores: (n,), higher is more anomalous; clips of equal score are told apart by no threshold.
        is_anomaly: (n,), with both kinds.
        weights: (R, n) how often each clip counts; by default once.
    """
    weights = np.ones((1, len(scores))) if weights is None else weights
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    descending = np.asarray(scores)[order]
    first_of_equals = np.flatnonzero(np.r_[True, descending[1:] != descending[:-1]])
    rates = []
    for kind in (~is_anomaly, is_anomaly):
        counted = np.add.reduceat(weights[:, order] * kind[order], first_of_equals, axis=1)  # (R, thresholds)
        reached = np.cumsum(counted, axis=1)
        rates.append(np.pad(reached / reached[:, -1:], ((0, 0), (1, 0))))
    return rates[0], rates[1]


def roc_areas(
    scores: NDArray[np.floating], is_anomaly: NDArray[np.bool_], weights: FloatVector | None = None
) -> tuple[FloatVector, FloatVector]:
    """AUC and partial AUC of each weighting, (R,) each, in 0..1; NaN where there are not both kinds of clips.

    The partial area up to MAX_FPR is standardised, so that chance gives 0.5 and no error 1.

    Source: D. K. McClish, Analyzing a portion of the ROC curve (1989); equals scikit-learn's roc_auc_score.
    """
    weights = np.ones((1, len(scores))) if weights is None else weights
    if is_anomaly.all() or not is_anomaly.any():
        return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    auc, pauc = [], []
    for start in range(0, len(weights), _WEIGHTINGS_AT_ONCE):
        fpr, tpr = roc_curve(scores, is_anomaly, weights[start : start + _WEIGHTINGS_AT_ONCE])
        auc.append(_area(fpr, tpr))
        chance, perfect = MAX_FPR**2 / 2.0, MAX_FPR
        pauc.append(0.5 * (1.0 + (_area_up_to(MAX_FPR, fpr, tpr) - chance) / (perfect - chance)))
    return np.concatenate(auc), np.concatenate(pauc)


def _area(x: FloatVector, y: FloatVector) -> FloatVector:
    """Area under straight lines from point to point, (R,)."""
    area: FloatVector = np.sum(np.diff(x, axis=1) * (y[:, 1:] + y[:, :-1]), axis=1) / 2.0
    return area


def _area_up_to(limit: float, x: FloatVector, y: FloatVector) -> FloatVector:
    """The same left of x = limit; the line that crosses it is cut there."""
    left, right = x[:, :-1], x[:, 1:]
    width = right - left
    share = np.clip(np.divide(limit - left, width, out=np.zeros_like(width), where=width > 0.0), 0.0, 1.0)
    y_cut = y[:, :-1] + share * np.diff(y, axis=1)
    area: FloatVector = np.sum(share * width * (y[:, :-1] + y_cut), axis=1) / 2.0
    return area

"""Cosines to the class weights in, anomaly scores of the class that is listened to out."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_asd.types import FloatArray


class MarginScorer:
    """Scores by how much more the sound resembles other classes than its own.

    z = logsumexp(other margin logits) - margin logit of the own class. softplus(z) is the published cross-entropy
    score; z ranks alike and does not saturate where that one is exactly 0 in float32.

    Args:
        scale: ArcFace scale of the logits.
        margin: ArcFace margin in radians, added to the angle of the own class.
        n_classes: classes of the network; without a second one there is nothing to compare with.

    Raises:
        ValueError: n_classes is below 2.

    Source: J. Deng et al., ArcFace (2019), with the monotone extension where the angle plus the margin exceeds pi.
    """

    def __init__(self, scale: float, margin: float, *, n_classes: int) -> None:
        if n_classes < 2:
            raise ValueError(
                f"the margin score compares a class with the others, and the network has {n_classes} in all; "
                "train it on at least 2 classes (machine types or machine IDs)"
            )
        self._scale = scale
        self._margin = margin
        self._n_classes = n_classes

    def score(self, cosine: FloatArray, class_index: int | NDArray[np.integer]) -> FloatArray:
        """Anomaly scores z (B,) float32, unbounded; NaN where a cosine is NaN.

        Args:
            cosine: (B, n_classes) to every class weight.
            class_index: the class listened to, one for all or (B,).

        Raises:
            ValueError: cosine has another shape, or class_index is not within 0..n_classes-1.
        """
        if cosine.ndim != 2 or cosine.shape[1] != self._n_classes:
            raise ValueError(f"cosine has shape {cosine.shape}; expected (B, {self._n_classes})")
        own = np.broadcast_to(np.asarray(class_index), cosine.shape[:1])
        if np.any((own < 0) | (own >= self._n_classes)):
            raise ValueError(f"class_index is {class_index}; expected 0 to {self._n_classes - 1}")
        row = np.arange(len(cosine))
        logits = self._scale * cosine.astype(np.float64)  # (B, n_classes)
        own_logit = self._scale * self._with_margin(cosine[row, own].astype(np.float64))
        logits[row, own] = -np.inf  # leaves the others
        highest = logits.max(axis=1)
        others = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
        scores: FloatArray = (others - own_logit).astype(np.float32)
        return scores

    def _with_margin(self, cosine: NDArray[np.float64]) -> NDArray[np.float64]:
        """cos(angle + margin), and beyond pi the straight line that keeps it falling with the angle."""
        # An embedding that meets its class weight may have a cosine a rounding error above 1.
        sine = np.sqrt(np.maximum(0.0, 1.0 - cosine**2))
        within = cosine * math.cos(self._margin) - sine * math.sin(self._margin)
        beyond = cosine - self._margin * math.sin(self._margin)
        return np.where(cosine > math.cos(math.pi - self._margin), within, beyond)

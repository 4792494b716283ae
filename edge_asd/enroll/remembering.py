"""The network's outputs in, anomaly scores by enrolled sound out; the latest vector is remembered."""

from __future__ import annotations

import numpy as np

from edge_asd.bundle import Encoder
from edge_asd.score import KnnScorer, layer_vectors
from edge_asd.types import EngineOutputs, FloatArray, ScorerName


class RememberingScorer:
    """Scores by the memory that is enrolled, 0 while there is none, and remembers the latest window's vector."""

    name: ScorerName = "knn"

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.vector: FloatArray | None = None  # (d,)
        self.enrolled: KnnScorer | None = None

    def score(self, outputs: EngineOutputs) -> FloatArray:
        """Anomaly scores (B,) float32."""
        vectors = layer_vectors(outputs, self._encoder.layer)
        self.vector = vectors[-1]
        return np.zeros(len(vectors), np.float32) if self.enrolled is None else self.enrolled.score(outputs)

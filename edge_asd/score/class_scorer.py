"""A bundle and the name of a class in, what scores engine outputs as that class out."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from edge_asd.bundle import Bundle
from edge_asd.bundle.memory import Spread
from edge_asd.errors import BundleError
from edge_asd.score.knn import KnnScorer
from edge_asd.score.margin import MarginScorer
from edge_asd.types import EngineOutputs, FloatArray, ScorerName


class ClassScorer(Protocol):
    """Scores engine outputs as one class."""

    @property
    def name(self) -> ScorerName:
        """Which scorer it is."""
        ...

    def score(self, outputs: EngineOutputs) -> FloatArray:
        """Anomaly scores (B,) float32, higher is more anomalous; NaN where what it needs of the outputs is NaN."""
        ...


class OwnClassMargin:
    """The margin score at one class of the network."""

    name: ScorerName = "margin"

    def __init__(self, margin: MarginScorer, class_index: int) -> None:
        self._margin = margin
        self._class_index = class_index

    def score(self, outputs: EngineOutputs) -> FloatArray:
        """Anomaly scores z (B,) float32."""
        return self._margin.score(outputs.cosine, self._class_index)


class Fusion:
    """The mean of margin and k-NN score, each in standard deviations of the same healthy recordings.

    margin_spread: margin scores of the recordings that the memory was made of; the k-NN score is one already.
    """

    name: ScorerName = "fusion"

    def __init__(self, margin: ClassScorer, margin_spread: Spread, knn: ClassScorer) -> None:
        self._margin = margin
        self._spread = margin_spread
        self._knn = knn

    def score(self, outputs: EngineOutputs) -> FloatArray:
        """Anomaly scores (B,) float32."""
        return fused_scores(self._margin.score(outputs), self._spread, self._knn.score(outputs))


def fused_scores(margin: FloatArray, margin_spread: Spread, knn: FloatArray) -> FloatArray:
    """The fusion (B,) float32 of margin and k-NN scores (B,); see `Fusion`."""
    standardised = (margin.astype(np.float64) - margin_spread.mean) / margin_spread.std
    scores: FloatArray = ((standardised + knn) / 2.0).astype(np.float32)
    return scores


class ClassScorers:
    """The scorers of a bundle's classes.

    Raises:
        BundleError: its only class has no others to be compared with.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._manifest = manifest = bundle.manifest
        self._memories = bundle.memories
        try:
            self.margin = MarginScorer(manifest.scorer.scale, manifest.scorer.margin, n_classes=len(manifest.classes))
        except ValueError as error:
            raise BundleError(f"{bundle.path}: {error}") from error

    def of(self, class_name: str, name: ScorerName | None = None) -> ClassScorer:
        """What scores outputs as one class, by the scorer of that name; None is the bundle's own choice.

        Raises:
            BundleError: the bundle has no such class, or cannot score it so.
        """
        self._manifest.check_scorer(class_name, name)
        chosen = name or self._manifest.scorer_of(class_name)
        margin = OwnClassMargin(self.margin, self._manifest.class_index(class_name))
        if chosen == "margin" or self._manifest.knn is None:
            return margin
        section = self._manifest.knn.memories[class_name]
        knn = KnnScorer(self._memories[class_name], section.fit)
        if chosen == "knn" or section.margin is None:
            return knn
        return Fusion(margin, section.margin, knn)

"""Clips and what one network said of them in, memories of healthy sound and the clips' scores by them out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from edge_asd.bundle import ClassFigures, Encoder, Memory, MemoryScorerName, Precision, Spread, Threshold
from edge_asd.errors import ClipError
from edge_asd.score import KnnScorer, build_memory, fused_scores, layer_vectors
from edge_asd.score.build import MIN_GROUPS
from edge_asd.threshold import Target
from edge_asd.types import EngineOutputs, FloatArray, Layer
from export.parity import Evaluated, detection_figures
from export.scorer_options import WantedScorers
from export.thresholds import Fitted, fit_thresholds
from export.windows import Clips
from train.data import Recording

SCORERS: tuple[MemoryScorerName, ...] = ("knn", "fusion")
_MIN_MARGIN_STD = 1e-6


class Roles:
    """Which of the clips serve for what, as rows of `clips.everything`."""

    def __init__(self, clips: Clips) -> None:
        self.recordings: tuple[Recording, ...] = clips.everything
        self._class_names = np.array([recording.class_name for recording in self.recordings])
        number = np.arange(len(self.recordings))
        self._is_trained = number < len(clips.trained)
        self._is_test = number >= len(clips.for_ranges)

    def memory_and_fresh(self, class_name: str) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows of the clips that a memory is made of, and of those that its thresholds are fitted on.

        A memory is made of the clips that the network was trained on; where there are too few, of every second clip
        that it was not trained on.
        """
        own = self._class_names == class_name
        trained, fresh = (
            np.flatnonzero(own & self._is_trained),
            np.flatnonzero(own & ~self._is_trained & ~self._is_test),
        )
        return (trained, fresh) if len(trained) >= MIN_GROUPS else (fresh[::2], fresh[1::2])

    def test(self, class_name: str) -> NDArray[np.intp]:
        """Rows of the clips that nothing is fitted on."""
        return np.flatnonzero((self._class_names == class_name) & self._is_test)


class ClassScores:
    """One class's memory, and the scores of clips by it.

    margin: margin scores of the memory's clips; None where they show no spread.

    Args:
        class_name: of the memory.
        found: what the network said of all clips.
        roles: of the clips.
        encoder: which network it was.
        wanted: neighbours and budget.

    Raises:
        ClipError: there are too few clips, or all are alike.
    """

    def __init__(
        self, class_name: str, found: Evaluated, roles: Roles, *, encoder: Encoder, wanted: WantedScorers
    ) -> None:
        self.class_name = class_name
        self._roles = roles
        self._layer = encoder.layer
        rows, self._fresh = roles.memory_and_fresh(class_name)
        if not len(rows):
            raise ClipError(f"no healthy clips of {class_name} for a memory; expected {MIN_GROUPS} or more; add some")
        recordings = [roles.recordings[row] for row in rows]
        heard = Memory(
            encoder=encoder,
            vectors=evaluated_vectors(found, self._layer)[rows],
            is_target=np.array([recording.domain == "target" for recording in recordings], dtype=bool),
            group=np.unique([recording.group for recording in recordings], return_inverse=True)[1].astype(np.int64),
            begin_utc_s=np.zeros(len(rows)),
            end_utc_s=np.zeros(len(rows)),
        )
        self.memory, self.fit = build_memory(heard, k=wanted.neighbours, budget_bytes=wanted.memory_bytes)
        self._knn = KnnScorer(self.memory, self.fit)
        margin = found.score[rows].astype(np.float64)
        std = float(margin.std(ddof=1))
        self.margin = Spread(mean=float(margin.mean()), std=std, n=len(margin)) if std > _MIN_MARGIN_STD else None

    @property
    def scorers(self) -> tuple[MemoryScorerName, ...]:
        """By which the class can be scored."""
        return SCORERS if self.margin is not None else ("knn",)

    def ceiling(self, name: MemoryScorerName, margin_ceiling: float) -> float:
        """What a sound scores that has nothing in common with the healthy ones, at right angles to all of them.

        margin_ceiling: of the class, see `score_ceiling`; by fusion, the sound is taken wholly for another class, too.
        """
        spreads = (spread for spread in (self.fit.source, self.fit.target) if spread is not None)
        knn = min((math.sqrt(2.0) - spread.mean) / spread.std for spread in spreads)
        return float(self._by(name, np.array([margin_ceiling], np.float32), np.array([knn], np.float32))[0])

    def fresh(self, name: MemoryScorerName, found: Evaluated) -> FloatArray:
        """Scores of healthy clips that neither network nor memory knows."""
        return self._scores(name, found, self._fresh)

    def test_figures(
        self, name: MemoryScorerName, precision: Precision, found: Evaluated, thresholds: Mapping[str, Threshold]
    ) -> tuple[ClassFigures, ...]:
        """Figures of the clips that nothing was fitted on; empty where there are none."""
        rows = self._roles.test(self.class_name)
        if not len(rows):
            return ()
        return detection_figures(
            precision,
            self._scores(name, found, rows),
            class_names=[self.class_name] * len(rows),
            is_anomaly=np.array([self._roles.recordings[row].label == "anomaly" for row in rows], dtype=bool),
            thresholds=thresholds,
            scorer=name,
        )

    def _scores(self, name: MemoryScorerName, found: Evaluated, rows: NDArray[np.intp]) -> FloatArray:
        knn = self._knn.score_vectors(evaluated_vectors(found, self._layer)[rows])
        return self._by(name, found.score[rows], knn)

    def _by(self, name: MemoryScorerName, margin: FloatArray, knn: FloatArray) -> FloatArray:
        return knn if name == "knn" or self.margin is None else fused_scores(margin, self.margin, knn)


def memory_thresholds(
    name: MemoryScorerName,
    classes: Iterable[ClassScores],
    found: Evaluated,
    target: Target,
    *,
    margin_ceilings: Mapping[str, float],
    precision: Precision,
) -> Fitted:
    """Thresholds of one scorer, for each class that it can score and that has fresh clips."""
    scored = [each for each in classes if name in each.scorers]
    scores = {each.class_name: each.fresh(name, found) for each in scored}
    return fit_thresholds(
        {class_name: fresh for class_name, fresh in scores.items() if len(fresh)},
        target,
        scorer=name,
        trained_scores={},
        ceilings={each.class_name: each.ceiling(name, margin_ceilings[each.class_name]) for each in scored},
        precision=precision,
    )


def evaluated_vectors(found: Evaluated, layer: Layer) -> FloatArray:
    """(N, d) of the memories' layer, of unit length."""
    nothing = found.embedding[:, :0]
    outputs = EngineOutputs(embedding=found.embedding, cosine=nothing, feature_map=found.feature_map)
    return layer_vectors(outputs, layer)

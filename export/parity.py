"""Torch, float32 ONNX and INT8 ONNX runners in, how far they agree on real windows and how they tell faults, out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from edge_asd.bundle import ClassFigures, EngineName, ParityFigures, Precision, Threshold
from edge_asd.score import MarginScorer
from edge_asd.types import EngineOutputs, FloatArray, ScorerName
from export.runners import Runner
from export.windows import Windows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluated:
    """What one runner said of N windows, float32.

    embedding: (N, 128). score: (N,), z of each at its own class. feature_map: (N, size); None where none was asked for.
    """

    embedding: FloatArray
    score: FloatArray
    feature_map: FloatArray | None = None


def evaluate(runners: Mapping[str, Runner], windows: Iterable[Windows], scorer: MarginScorer) -> dict[str, Evaluated]:
    """Run every runner on the same windows, batch by batch."""
    found: dict[str, list[EngineOutputs]] = {name: [] for name in runners}
    labels: list[NDArray[np.int64]] = []
    for batch in windows:
        labels.append(batch.label)
        for name, run in runners.items():
            found[name].append(run(batch.wave, batch.log_mel))
    evaluated = {}
    for name, parts in found.items():
        outputs = EngineOutputs.joined(parts)
        score = scorer.score(outputs.cosine, np.concatenate(labels))
        evaluated[name] = Evaluated(embedding=outputs.embedding, score=score, feature_map=outputs.feature_map)
    return evaluated


def parity_figures(precision: Precision, engine: EngineName, reference: Evaluated, found: Evaluated) -> ParityFigures:
    """How far `found` is from `reference` on the same windows."""
    cosine = (reference.embedding * found.embedding).sum(axis=1)  # (N,) both of unit length
    cosine /= np.linalg.norm(reference.embedding, axis=1) * np.linalg.norm(found.embedding, axis=1)
    difference = np.abs(reference.score - found.score)
    return ParityFigures(
        precision=precision,
        engine=engine,
        n_windows=len(cosine),
        embedding_cosine_min=float(cosine.min()),
        embedding_cosine_mean=float(cosine.mean()),
        score_difference_max=float(difference.max()),
        score_difference_mean=float(difference.mean()),
    )


def detection_figures(
    precision: Precision,
    score: FloatArray,
    *,
    class_names: Sequence[str],
    is_anomaly: NDArray[np.bool_],
    thresholds: Mapping[str, Threshold],
    scorer: ScorerName = "margin",
) -> tuple[ClassFigures, ...]:
    """Figures of each class over test clips that nothing was fitted on.

    score, class_names and is_anomaly: one a clip, score and thresholds by `scorer`. AUC is None where a class lacks
    healthy or damaged clips.
    """
    names = np.asarray(class_names)
    return tuple(
        _class_figures(
            precision,
            class_name,
            normal=score[(names == class_name) & ~is_anomaly],
            anomaly=score[(names == class_name) & is_anomaly],
            threshold=thresholds.get(class_name),
            scorer=scorer,
        )
        for class_name in sorted(set(class_names))
    )


def _class_figures(
    precision: Precision,
    class_name: str,
    *,
    normal: FloatArray,
    anomaly: FloatArray,
    threshold: Threshold | None,
    scorer: ScorerName,
) -> ClassFigures:
    return ClassFigures(
        class_name=class_name,
        precision=precision,
        scorer=scorer,
        n_normal=len(normal),
        n_anomaly=len(anomaly),
        auc=area_under_curve(normal, anomaly) if len(normal) and len(anomaly) else None,
        normal_above_threshold=None if threshold is None else int((normal > threshold.threshold).sum()),
        anomaly_above_threshold=None if threshold is None else int((anomaly > threshold.threshold).sum()),
    )


def area_under_curve(normal: FloatArray, anomaly: FloatArray) -> float:
    """AUC as the share of pairs in which the damaged clip scores higher, ties as half (Mann-Whitney U)."""
    return float(stats.mannwhitneyu(anomaly, normal).statistic / (len(anomaly) * len(normal)))

"""Scored clips of a run in; named figures by machine ID, by type and on average, with confidence intervals, out."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from scipy.stats import hmean

from train.evaluation.roc import FloatVector, roc_areas

FigureName: TypeAlias = Literal[
    "auc",
    "pauc",
    "auc_id_mean",
    "pauc_id_mean",
    "auc_pooled",
    "pauc_pooled",
    "mauc",
    "auc_source",
    "auc_target",
    "harmonic_mean",
]

TITLES: dict[FigureName, str] = {
    "auc": "AUC",
    "pauc": "pAUC",
    "auc_id_mean": "AUC, mean over IDs",
    "pauc_id_mean": "pAUC, mean over IDs",
    "auc_pooled": "AUC, IDs pooled",
    "pauc_pooled": "pAUC, IDs pooled",
    "mauc": "mAUC",
    "auc_source": "AUC source",
    "auc_target": "AUC target",
    "harmonic_mean": "harmonic mean",
}
AVERAGE = "average over types"
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredClip:
    """A test clip and its anomaly score, higher is more anomalous; domain is none where the data has no domains."""

    file: str
    class_name: str  # TYPE/ID
    is_anomaly: bool
    domain: Literal["source", "target", "none"]
    group: str
    score: float

    @property
    def machine_type(self) -> str:
        """The part of the class name that names the type."""
        return self.class_name.rsplit("/", 1)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure in 0..1, and the bounds of its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """All figures of one machine ID (`TYPE/ID`), of one type, or of the average over types."""

    kind: Literal["id", "type", "average"]
    name: str
    n_normal: int
    n_anomaly: int
    figures: dict[FigureName, Figure]


def evaluate_clips(clips: Sequence[ScoredClip], *, replicates: int = 1000, seed: int = 0) -> tuple[Row, ...]:
    """Figures of every machine ID that has healthy and damaged test clips, of its type, and on average over types.

    By type and on average: AUC and pAUC as the mean over IDs (DCASE) and with the scores of a type's IDs pooled before
    the curve is drawn (as the code published with TFSTgram does); mAUC is the lowest AUC of a type's IDs. With source
    and target domains: AUC of each domain, its healthy clips against all damaged ones of the ID, and the harmonic mean
    of those and the pAUC of every ID; without domains, the harmonic mean of AUC and pAUC of every ID.

    Confidence intervals are percentiles of a bootstrap over groups of clips (recordings), drawn anew within each ID,
    label and domain.

    Args:
        clips: of one run.
        replicates: of the bootstrap.
        seed: of the bootstrap; an ID's draws do not depend on which others there are.

    Source: DCASE 2020, 2022 and 2023 Challenge Task 2, evaluation metrics.
    """
    by_class: dict[str, list[ScoredClip]] = defaultdict(list)
    for clip in clips:
        by_class[clip.class_name].append(clip)
    machines = {
        name: _Machine(members, replicates, seed)
        for name, members in sorted(by_class.items())
        if 0 < sum(clip.is_anomaly for clip in members) < len(members)
    }
    by_type: dict[str, list[_Machine]] = defaultdict(list)
    for name, machine in machines.items():
        by_type[name.rsplit("/", 1)[0]].append(machine)
    rows = [_row("id", name, [machine], machine.figures()) for name, machine in machines.items()]
    of_types = {name: _of_type(members) for name, members in by_type.items()}
    rows += [_row("type", name, by_type[name], figures) for name, figures in of_types.items()]
    if of_types:
        shared = set.intersection(*(set(figures) for figures in of_types.values()))
        average = {name: np.mean([figures[name] for figures in of_types.values()], axis=0) for name in shared}
        average["harmonic_mean"] = _harmonic([machine for members in by_type.values() for machine in members])
        rows.append(_row("average", AVERAGE, list(machines.values()), average))
    return tuple(rows)


class _Machine:
    """One machine ID's clips and what each replicate weighs them; row 0 of every array is the data itself."""

    def __init__(self, clips: Sequence[ScoredClip], replicates: int, seed: int) -> None:
        self.scores = np.array([clip.score for clip in clips], dtype=np.float64)
        self.is_anomaly = np.array([clip.is_anomaly for clip in clips], dtype=bool)
        self.domain = np.array([clip.domain for clip in clips])
        rng = np.random.default_rng([seed, zlib.crc32(clips[0].class_name.encode())])
        self.weights = _draw_groups(clips, replicates, rng)  # (replicates + 1, n)
        self.auc, self.pauc = roc_areas(self.scores, self.is_anomaly, self.weights)

    def domain_auc(self, domain: str) -> FloatVector | None:
        """AUC of the domain's healthy clips against all damaged ones; None where it has no healthy clips."""
        counts = self.is_anomaly | (self.domain == domain)
        if not np.any(counts & ~self.is_anomaly):
            return None
        return roc_areas(self.scores[counts], self.is_anomaly[counts], self.weights[:, counts])[0]

    def figures(self) -> dict[FigureName, FloatVector]:
        """Of the ID alone, (replicates + 1,) each."""
        figures: dict[FigureName, FloatVector] = {"auc": self.auc, "pauc": self.pauc}
        return {**figures, **self.domain_figures(), "harmonic_mean": _harmonic([self])}

    def domain_figures(self) -> dict[FigureName, FloatVector]:
        """AUC of the domains that there are."""
        names: dict[str, FigureName] = {"source": "auc_source", "target": "auc_target"}
        found = {name: self.domain_auc(domain) for domain, name in names.items()}
        return {name: auc for name, auc in found.items() if auc is not None}


def _draw_groups(clips: Sequence[ScoredClip], replicates: int, rng: np.random.Generator) -> FloatVector:
    """How often each clip counts, (replicates + 1, n): once in row 0, then as its group was drawn."""
    strata: dict[tuple[bool, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, clip in enumerate(clips):
        strata[clip.is_anomaly, clip.domain][clip.group].append(place)
    weights = np.ones((replicates + 1, len(clips)))
    for _, groups in sorted(strata.items()):
        drawn = rng.multinomial(len(groups), np.full(len(groups), 1.0 / len(groups)), size=replicates)
        for column, places in enumerate(groups.values()):
            weights[1:, places] = drawn[:, [column]]
    return weights


def _of_type(machines: Sequence[_Machine]) -> dict[FigureName, FloatVector]:
    pooled = roc_areas(
        np.concatenate([machine.scores for machine in machines]),
        np.concatenate([machine.is_anomaly for machine in machines]),
        np.concatenate([machine.weights for machine in machines], axis=1),
    )
    auc = np.stack([machine.auc for machine in machines])  # (IDs, replicates + 1)
    figures: dict[FigureName, FloatVector] = {
        "auc_id_mean": auc.mean(axis=0),
        "pauc_id_mean": np.mean([machine.pauc for machine in machines], axis=0),
        "auc_pooled": pooled[0],
        "pauc_pooled": pooled[1],
        "mauc": auc.min(axis=0),
    }
    domains = [machine.domain_figures() for machine in machines]
    for name in set.intersection(*(set(found) for found in domains)):
        figures[name] = np.mean([found[name] for found in domains], axis=0)
    figures["harmonic_mean"] = _harmonic(machines)
    return figures


def _harmonic(machines: Sequence[_Machine]) -> FloatVector:
    parts: list[FloatVector] = []
    for machine in machines:
        parts += [*(machine.domain_figures().values() or [machine.auc]), machine.pauc]
    mean: FloatVector = np.asarray(hmean(np.stack(parts), axis=0))
    return mean


def _row(
    kind: Literal["id", "type", "average"],
    name: str,
    machines: Sequence[_Machine],
    figures: dict[FigureName, FloatVector],
) -> Row:
    tail = (1.0 - _CONFIDENCE) / 2.0

    def figure(values: FloatVector) -> Figure:
        low, high = np.quantile(values[1:], [tail, 1.0 - tail]) if len(values) > 1 else (values[0], values[0])
        return Figure(value=float(values[0]), low=float(low), high=float(high))

    return Row(
        kind=kind,
        name=name,
        n_normal=int(sum(np.count_nonzero(~machine.is_anomaly) for machine in machines)),
        n_anomaly=int(sum(np.count_nonzero(machine.is_anomaly) for machine in machines)),
        figures={title: figure(figures[title]) for title in TITLES if title in figures},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A figure over several runs: mean, standard deviation (of n - 1; None for one run) and how many had it."""

    mean: float
    std: float | None
    n_runs: int


def over_runs(runs: Sequence[Sequence[Row]]) -> dict[str, dict[FigureName, Spread]]:
    """Mean and standard deviation over runs (seeds) by row and figure, rows in the order of their first run."""
    values: dict[str, dict[FigureName, list[float]]] = {}
    for rows in runs:
        for row in rows:
            of_row = values.setdefault(row.name, {})
            for name, figure in row.figures.items():
                of_row.setdefault(name, []).append(figure.value)
    return {row: {name: _spread(found) for name, found in figures.items()} for row, figures in values.items()}


def _spread(values: Sequence[float]) -> Spread:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(mean=float(np.mean(values)), std=std, n_runs=len(values))

"""Real windows and two networks' answers to them in, how far the one is from the other and the budget for it out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_asd.bundle import ParityFigures
from edge_asd.types import FloatArray
from export.parity import Evaluated, area_under_curve, parity_figures
from export.windows import Windows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """Windows that INT8 is tried on beside float32.

    windows: makes an iterator over the same windows each time it is called. class_names (N,), is_anomaly (N,): of the
    labelled clips, which are the last N of them, one window each.
    """

    windows: Callable[[], Iterator[Windows]]
    class_names: tuple[str, ...]
    is_anomaly: NDArray[np.bool_]

    def auc_of_classes(self, evaluated: Evaluated) -> dict[str, float]:
        """AUC by class, of classes that have healthy and damaged clips."""
        names = np.array(self.class_names, dtype=str)
        score = evaluated.score[len(evaluated.score) - len(names) :]
        groups = {
            name: (score[(names == name) & ~self.is_anomaly], score[(names == name) & self.is_anomaly])
            for name in sorted(set(self.class_names))
        }
        return {
            name: area_under_curve(normal, anomaly)
            for name, (normal, anomaly) in groups.items()
            if len(normal) and len(anomaly)
        }

    def n_pairs(self) -> int:
        """Pairs of a healthy and a damaged clip of one class: what the AUC counts."""
        names = np.array(self.class_names, dtype=str)
        return sum(
            int(((names == name) & self.is_anomaly).sum() * ((names == name) & ~self.is_anomaly).sum())
            for name in set(self.class_names)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How near an INT8 model is to the float32 one.

    parity: over all windows that it was tried on. auc_drop: by how much the AUC is lower, in the mean over classes;
    None where no class has healthy and damaged clips, or where the model was not tried on all windows.
    """

    parity: ParityFigures
    auc_drop: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What INT8 may cost. min_embedding_cosine: on every window. max_auc_drop: 0.002 is 0.2 points."""

    min_embedding_cosine: float = 0.995
    max_auc_drop: float = 0.002

    def holds(self, fit: Fit) -> bool:
        """Whether a model keeps to it."""
        # Half a part in a thousand million: an AUC is a sum of shares, and its rounding is no drop.
        is_heard = fit.auc_drop is None or fit.auc_drop <= self.max_auc_drop + 5e-10
        return fit.parity.embedding_cosine_min >= self.min_embedding_cosine and is_heard

    def __str__(self) -> str:
        return f"embedding cosine at least {self.min_embedding_cosine:g}, AUC drop at most {self.max_auc_drop:g}"


def fit_of(reference: Evaluated, found: Evaluated, trial: Trial | None) -> Fit:
    """How near `found` is to `reference`; without the trial that both were evaluated on, nothing is said of the AUC."""
    expected = trial.auc_of_classes(reference) if trial else {}
    drops = [expected[name] - auc for name, auc in trial.auc_of_classes(found).items()] if trial else []
    return Fit(
        parity=parity_figures("int8", "onnxruntime", reference, found),
        auc_drop=float(np.mean(drops)) if drops else None,
    )


def embedding_loss(reference: Evaluated, found: Evaluated) -> FloatArray:
    """1 - cosine (N,) of each embedding with the expected one."""
    a, b = reference.embedding.astype(np.float64), found.embedding.astype(np.float64)
    cosine = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    loss: FloatArray = np.maximum(1.0 - cosine, 0.0).astype(np.float32)
    return loss


def windows_at(windows: Iterable[Windows], rows: NDArray[np.intp]) -> Windows:
    """The windows at these places of all, in one batch."""
    parts: dict[int, Windows] = {}
    start = 0
    for batch in windows:
        for row in rows[(rows >= start) & (rows < start + len(batch.wave))]:
            one = slice(row - start, row - start + 1)
            parts[int(row)] = Windows(wave=batch.wave[one], log_mel=batch.log_mel[one], label=batch.label[one])
        start += len(batch.wave)
    found = [parts[int(row)] for row in rows]
    return Windows(
        wave=np.concatenate([part.wave for part in found]),
        log_mel=np.concatenate([part.log_mel for part in found]),
        label=np.concatenate([part.label for part in found]),
    )

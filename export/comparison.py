"""Runners of one network and labelled windows in, how near each is to torch, how it tells faults and how fast, out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from edge_asd.errors import UsageError
from edge_asd.score import MarginScorer
from edge_asd.types import FloatArray
from export.parity import Evaluated
from export.runners import Runner
from export.trial import Trial, embedding_loss
from export.windows import Clips, Reader, Windows
from train.environment import write_figures

REFERENCE = "torch-eager"
_WARM_UP_WINDOWS = 3
_MIN_TIMED_WINDOWS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What one contestant said of the clips, beside REFERENCE, and how long it took, one window at a time.

    auc_mean: over classes with healthy and damaged clips; None where there is none. Latencies are of the network
    alone: every contestant is given the same log-mel.
    """

    embedding_cosine_min: float
    embedding_cosine_mean: float
    score_difference_max: float
    score_difference_mean: float
    auc_mean: float | None
    p50_ms: float
    p90_ms: float
    n_windows: int
    n_timed: int


def labelled_trial(clips: Clips, read: Reader) -> Trial:
    """One window of each clip that was not trained on."""
    recordings = clips.calibration + clips.for_test
    return Trial(
        windows=lambda: read(recordings),
        class_names=tuple(recording.class_name for recording in recordings),
        is_anomaly=np.array([recording.label == "anomaly" for recording in recordings], dtype=bool),
    )


def compare(runners: Mapping[str, Runner], trial: Trial, scorer: MarginScorer) -> dict[str, Comparison]:
    """Let the contestants take turns, window by window, in an order that rotates.

    Args:
        runners: by name, REFERENCE among them.
        trial: the labelled clips, one window each.
        scorer: of the bundle.

    Raises:
        UsageError: there are no clips.
    """
    windows = [one for batch in trial.windows() for one in _one_by_one(batch)]
    if not windows:
        raise UsageError("no clip to compare on: all were trained on; expected held-out or damaged ones; add some")
    names = list(runners)
    answers: dict[str, list[Evaluated]] = {name: [] for name in names}
    latency_ms: dict[str, list[float]] = {name: [] for name in names}
    for number in range(_WARM_UP_WINDOWS + max(_MIN_TIMED_WINDOWS, len(windows))):
        window, first = windows[number % len(windows)], number % len(names)
        for name in (*names[first:], *names[:first]):
            began_s = time.perf_counter()
            outputs = runners[name](window.wave, window.log_mel)
            taken_ms = 1e3 * (time.perf_counter() - began_s)
            if number >= _WARM_UP_WINDOWS:
                latency_ms[name].append(taken_ms)
            if number < len(windows):
                score = scorer.score(outputs.cosine, window.label)
                answers[name].append(Evaluated(embedding=outputs.embedding, score=score))
    evaluated = {name: _joined(found) for name, found in answers.items()}
    return {
        name: _comparison(evaluated[REFERENCE], evaluated[name], np.array(latency_ms[name]), trial) for name in names
    }


def print_comparison(title: str, found: Mapping[str, Comparison], console: Console) -> None:
    """One row a contestant."""
    table = Table("contestant", title=title, box=box.SIMPLE, title_justify="left")
    headings = ("embedding cosine min", "mean", "score difference max", "mean", "AUC", "p50 ms", "p90 ms", "to torch")
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, figures in found.items():
        table.add_row(
            name,
            f"{figures.embedding_cosine_min:.5f}",
            f"{figures.embedding_cosine_mean:.5f}",
            f"{figures.score_difference_max:.4f}",
            f"{figures.score_difference_mean:.4f}",
            "" if figures.auc_mean is None else f"{figures.auc_mean:.4f}",
            f"{figures.p50_ms:.2f}",
            f"{figures.p90_ms:.2f}",
            f"{figures.p50_ms / found[REFERENCE].p50_ms:.2f}",
        )
    console.print(table)


def write_comparison(
    path: Path, program: str, found: Mapping[str, Comparison], *, absent: Mapping[str, str], details: Mapping[str, Any]
) -> None:
    """Write all figures as JSON, with the environment, and the reasons of those that could not take part.

    Raises:
        EdgeAsdError: the file cannot be written.
    """
    contestants = {
        name: {metric: value for metric, value in asdict(figures).items() if value is not None}
        for name, figures in found.items()
    }
    ratios = {name: figures.p50_ms / found[REFERENCE].p50_ms for name, figures in found.items() if name != REFERENCE}
    write_figures(path, program, {**details, "absent": dict(absent), "contestants": contestants, "ratios": ratios})


def _comparison(reference: Evaluated, found: Evaluated, latency_ms: NDArray[np.float64], trial: Trial) -> Comparison:
    loss = embedding_loss(reference, found)
    difference: FloatArray = np.abs(reference.score - found.score)
    auc = list(trial.auc_of_classes(found).values())
    return Comparison(
        embedding_cosine_min=float(1.0 - loss.max()),
        embedding_cosine_mean=float(1.0 - loss.mean()),
        score_difference_max=float(difference.max()),
        score_difference_mean=float(difference.mean()),
        auc_mean=float(np.mean(auc)) if auc else None,
        p50_ms=float(np.percentile(latency_ms, 50)),
        p90_ms=float(np.percentile(latency_ms, 90)),
        n_windows=len(found.score),
        n_timed=len(latency_ms),
    )


def _joined(parts: Sequence[Evaluated]) -> Evaluated:
    return Evaluated(
        embedding=np.concatenate([part.embedding for part in parts]),
        score=np.concatenate([part.score for part in parts]),
    )


def _one_by_one(batch: Windows) -> Iterator[Windows]:
    for row in range(len(batch.wave)):
        one = slice(row, row + 1)
        yield Windows(wave=batch.wave[one], log_mel=batch.log_mel[one], label=batch.label[one])

"""Results in, tables of mean and standard deviation over seeds out: for a terminal, and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.noise_robustness.results import ResultRow
from benchmarks.noise_robustness.trial import CASES

_TITLES = {
    ("log-mel", "k-NN"): "log-mel, k-NN",
    ("ae", "error"): "autoencoder",
    ("stgram-arcface", "margin"): "STgram ArcFace",
    ("tastgram-namix", "margin"): "TASTgram noisy ArcMix",
    ("logmel-os-scl", "margin"): "log-mel OS-SCL",
    ("stgram-os-scl", "margin"): "TFSTgram OS-SCL without TFgram",
    ("tfstgram-os-scl", "margin"): "TFSTgram OS-SCL",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One method with one scorer: its values by case and SNR, (seeds,) each."""

    title: str
    seeds: int
    values: dict[tuple[str, str], list[float]]
    training_s: float
    multiply_adds: int


def print_tables(rows: Sequence[ResultRow], *, figure: str, console: Console) -> None:
    """Print one table a noise case. figure: one of figures.FIGURES."""
    for case in CASES:
        table = Table(title=f"{case} noise: {figure}, mean ± standard deviation over seeds, %")
        for number, name in enumerate(_header(rows)):
            table.add_column(name, justify="right" if number else "left")
        for cells in _cells(rows, case, figure):
            table.add_row(*cells)
        console.print(table)


def markdown(rows: Sequence[ResultRow], *, case: str, figure: str) -> str:
    """One table of one noise case."""
    header = _header(rows)
    lines = [header, ["---"] * len(header), *_cells(rows, case, figure)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def _header(rows: Sequence[ResultRow]) -> list[str]:
    return ["method", "seeds", *(f"{snr_db} dB" for snr_db in _snrs(rows)), "training", "multiply-adds"]


def _cells(rows: Sequence[ResultRow], case: str, figure: str) -> Iterator[list[str]]:
    for line in _lines(rows, figure):
        figures = [_spread(line.values[case, snr_db]) for snr_db in _snrs(rows)]
        cost = [f"{line.training_s / 60.0:.1f} min", f"{line.multiply_adds / 1e6:,.0f} M"]
        yield [line.title, str(line.seeds), *figures, *(cost if line.training_s else ["none", "none"])]


def _lines(rows: Sequence[ResultRow], figure: str) -> Iterator[_Line]:
    for method in dict.fromkeys(row.method for row in rows):
        members = [row for row in rows if row.method == method]
        for scorer in members[0].figures:
            yield _Line(
                title=_TITLES.get((method, scorer), f"{_TITLES.get((method, 'margin'), method)}, {scorer}"),
                seeds=len(members),
                values={
                    (case, snr_db): [row.figures[scorer][case][snr_db][figure] for row in members]
                    for case in CASES
                    for snr_db in _snrs(rows)
                },
                training_s=float(np.mean([row.training_s for row in members])),
                multiply_adds=members[0].multiply_adds,
            )


def _snrs(rows: Sequence[ResultRow]) -> list[str]:
    return list(next(iter(rows[0].figures.values()))["stationary"]) if rows else []


def _spread(values: Sequence[float]) -> str:
    mean = f"{100.0 * np.mean(values):.1f}"
    return f"{mean} ± {100.0 * np.std(values, ddof=1):.1f}" if len(values) > 1 else mean

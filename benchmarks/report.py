"""Figures of a benchmark in, a table on the terminal and a JSON file with the environment out."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from train.environment import cpu_model, write_figures

Contestants = Mapping[str, Mapping[str, float]]

_RESULTS = Path(__file__).parent / "results"


def print_table(benchmark: str, contestants: Contestants, ratios: Mapping[str, float]) -> None:
    """Print one row a contestant, one column a metric, and the ratios below."""
    metrics = list(dict.fromkeys(metric for figures in contestants.values() for metric in figures))
    table = Table(title=f"{benchmark}: {cpu_model()}, {len(os.sched_getaffinity(0))} cores")
    table.add_column("contestant")
    for metric in metrics:
        table.add_column(metric, justify="right")
    for name, figures in contestants.items():
        table.add_row(name, *(_number(figures[metric]) if metric in figures else "" for metric in metrics))
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    for name, ratio in ratios.items():
        console.print(f"{name}: {ratio:.3f}", highlight=False)


def write_report(
    benchmark: str,
    contestants: Contestants,
    ratios: Mapping[str, float],
    *,
    path: Path | None = None,
    details: Mapping[str, Any] | None = None,
    program: str | None = None,
) -> Path:
    """Write the figures as JSON; by default to results/<benchmark>-<machine>.json beside the benchmarks.

    details: what else belongs to the figures, such as the model. program: the module that was run; by default
    benchmarks.<benchmark>.
    """
    path = path or report_path(benchmark)
    figures = {"benchmark": benchmark, **(details or {}), "contestants": contestants, "ratios": ratios}
    write_figures(path, program or f"benchmarks.{benchmark}", figures)
    return path


def report_path(benchmark: str) -> Path:
    """Where a benchmark's figures of this machine lie."""
    machine = re.sub(r"[^a-z0-9]+", "-", f"{cpu_model()} {len(os.sched_getaffinity(0))} cores".lower()).strip("-")
    return _RESULTS / f"{benchmark}-{machine}.json"


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.3g}" if value < 10 else f"{value:.1f}"

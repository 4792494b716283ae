"""Figures of a benchmark in, a table on the terminal and a JSON file with the environment out."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Contestants = Mapping[str, Mapping[str, float]]

_ROOT = Path(__file__).resolve().parent.parent
_RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("edge-asd", "numpy", "openvino", "onnxruntime", "torch", "paho-mqtt", "amqtt")


def environment() -> dict[str, Any]:
    """What the figures depend on: machine, system, versions, and the load as the benchmark ends."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def cpu_model() -> str:
    """The processor's or the board's name, as Linux tells it."""
    for path, pattern in (
        (Path("/proc/device-tree/model"), r"([^\x00]+)"),  # a Jetson says which board it is
        (Path("/proc/cpuinfo"), r"model name\s*: (.+)"),
    ):
        found = re.search(pattern, path.read_text(encoding="utf-8", errors="replace")) if path.exists() else None
        if found:
            return found.group(1).strip()
    return platform.machine()


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
    report = {
        "benchmark": benchmark,
        "command": " ".join(
            ["python", "-m", program or f"benchmarks.{benchmark}", *map(_without_folder, sys.argv[1:])]
        ),
        "git": git_state(),
        "environment": environment(),
        **(details or {}),
        "contestants": contestants,
        "ratios": ratios,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    Console(stderr=True).print(f"written to {path}", highlight=False, soft_wrap=True)
    return path


def report_path(benchmark: str) -> Path:
    """Where a benchmark's figures of this machine lie."""
    machine = re.sub(r"[^a-z0-9]+", "-", f"{cpu_model()} {len(os.sched_getaffinity(0))} cores".lower()).strip("-")
    return _RESULTS / f"{benchmark}-{machine}.json"


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.3g}" if value < 10 else f"{value:.1f}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _without_folder(argument: str) -> str:
    """Where a file lies on this machine is nothing that a reader could use."""
    return Path(argument).name if Path(argument).is_absolute() else argument


def git_state() -> str | None:
    """Commit, with `-dirty` where the checkout has changes; None outside a checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607 - whichever git the user has
            cwd=_ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()

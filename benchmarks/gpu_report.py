"""Latencies on a GPU in, the front end's times, the figures to reach, the roofline and a projection onto boards out."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.report import Contestants
from benchmarks.roofline import (
    PROJECTION,
    Ceilings,
    at_share_reached,
    print_projection,
    projection,
)

_ROOT = Path(__file__).resolve().parent.parent
_SMI_FIELDS = "name,driver_version,pstate,clocks.sm,clocks.mem,temperature.gpu,power.draw,power.limit"
_RELEASE = Path("/etc/nv_tegra_release")
_HERE = "this GPU"
_SAME_SHARE = "One window, ms: a projection at the share of the bound that this GPU reaches, measured on no board"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What was found, and the most that it may be: a ratio, or in the unit that the name ends with."""

    name: str
    found: float
    at_most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReport:
    """front_end: contestants by name, in us. gpu: what it is and how it stands.

    bounds: least time of a window here, in ms, as `roofline.projection` names them. projections: by title.
    """

    front_end: Contestants
    gpu: Mapping[str, Any]
    ceilings: Ceilings
    figures: list[Figure]
    bounds_ms: Mapping[str, float]
    projections: Mapping[str, Mapping[str, Mapping[str, float]]]

    @property
    def details(self) -> dict[str, Any]:
        """For the JSON file."""
        return {
            "ceilings": {
                "bytes_per_s": self.ceilings.bytes_per_s,
                "operations_per_s": dict(self.ceilings.operations_per_s),
            },
            "figures": {each.name: {"found": each.found, "at_most": each.at_most} for each in self.figures},
            "bounds_ms": dict(self.bounds_ms),
            "projections": {title: dict(rows) for title, rows in self.projections.items()},
        }

    def print_figures(self) -> None:
        """Print figures, bounds and projections."""
        console = Console(width=None if sys.stdout.isatty() else 140)
        table = Table("figure", title="Figures to reach")
        for heading in ("found", "at most"):
            table.add_column(heading, justify="right")
        for each in self.figures:
            table.add_row(each.name, f"{each.found:.3g}", f"{each.at_most:g}")
        console.print(table)
        print_projection("Least time of one window here, ms: counts over measured ceilings", {_HERE: self.bounds_ms},
                         console)  # fmt: skip
        for title, rows in self.projections.items():
            print_projection(title, rows, console)


def report_gpu(bundle: Path, contestants: Contestants) -> GpuReport:
    """Measure the front end in a process of its own and set all beside the bounds.

    Raises:
        RuntimeError: that process ended; its message stands above.
    """
    command = [sys.executable, "-m", "benchmarks.gpu_front_end", str(bundle.resolve())]
    if torch_sees_gpu():
        command.append("--with-torch")
    done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the front end's benchmark ended with {done.returncode}; its message stands above")
    return report_from_measured(bundle, contestants, json.loads(done.stdout))


def report_from_measured(bundle: Path, contestants: Contestants, measured: Mapping[str, Any]) -> GpuReport:
    """The report from what `benchmarks.gpu_front_end` printed."""
    ceilings = Ceilings(**measured["ceilings"])
    bounds_ms = projection(bundle, {_HERE: ceilings})[_HERE]
    boards = projection(bundle)
    measured_ms = {
        f"{precision}_ms": contestants[name]["p50_ms"]
        for precision in ("fp32", "fp16", "int8")
        if (name := f"tensorrt-{precision}") in contestants
    }
    front_end: Contestants = measured["contestants"]
    measured_ms["front_end_ms"] = 1e-3 * front_end["log-mel"]["launch_us"]
    return GpuReport(
        front_end=front_end,
        gpu={**measured["gpu"], **gpu_state()},
        ceilings=ceilings,
        figures=figures_from(contestants, front_end),
        bounds_ms=bounds_ms,
        projections={
            PROJECTION: boards,
            _SAME_SHARE: at_share_reached(boards, bounds_ms, measured_ms),
        },
    )


def figures_from(contestants: Contestants, front_end: Contestants) -> list[Figure]:
    """What the product is held to on a GPU; those whose contestants were not measured are left out."""
    p50_ms = {name: figures["p50_ms"] for name, figures in contestants.items()}
    launch_us = {name: figures["launch_us"] for name, figures in front_end.items()}
    found: list[Figure] = []

    def hold(times: Mapping[str, float], name: str, other: str, at_most: float) -> None:
        if name in times and other in times:
            found.append(Figure(name=f"{name} / {other}", found=times[name] / times[other], at_most=at_most))

    for name in ("tensorrt-fp16", "tensorrt-int8"):
        hold(p50_ms, name, "torch-compile", 0.5)
        hold(p50_ms, name, "torch-eager", 0.1)
    hold(p50_ms, "tensorrt-int8-x16", "tensorrt-int8", 3.0)
    for suffix in ("", "-x16"):
        for kernel in ("log-mel", "log-mel-of-a-tone"):
            hold(launch_us, f"{kernel}{suffix}", f"copy{suffix}", 3.0)
            hold(launch_us, f"{kernel}{suffix}", f"torch-stft-mel{suffix}", 0.2)
    found += [
        Figure(name=f"{name} cpu_p50_ms", found=contestants[name]["cpu_p50_ms"], at_most=0.2)
        for name in ("tensorrt-fp16", "tensorrt-int8")
        if name in contestants
    ]
    return found


def torch_sees_gpu() -> bool:
    """Whether torch is installed and made for CUDA; asked in another process, since torch stays once it is loaded."""
    if importlib.util.find_spec("torch") is None:
        return False
    ask = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", ask], check=False, capture_output=True).returncode == 0


def gpu_state() -> dict[str, str]:
    """Clocks, temperature and power as nvidia-smi tells them, and a Jetson's release."""
    state: dict[str, str] = {}
    smi = shutil.which("nvidia-smi")
    if smi:
        command = [smi, f"--query-gpu={_SMI_FIELDS}", "--format=csv,noheader", "--id=0"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not done.returncode:
            values = [value.strip() for value in done.stdout.splitlines()[0].split(",")]
            state.update(zip(_SMI_FIELDS.split(","), values, strict=False))
    if _RELEASE.exists():
        state["l4t"] = _RELEASE.read_text(encoding="ascii", errors="replace").splitlines()[0]
    return state

"""From a window's waveform to its score: the device's engines against what users run today, as ratios to torch eager.

`python -m benchmarks.latency [--quick] [--gpu] [--json FILE] [--bundle FILE]`. Each contestant is a process of its own
that stays open; they take turns with short bursts of windows, so that whatever else the machine does meets all of
them. The front end counts. The device's engines are measured through the device's own code, at the default hop, and
once more with every window computed whole (`whole_window_...`). `--gpu` compares TensorRT with torch on the GPU
instead, measures the front end's kernels beside what the GPU can do at best, and sets all beside the figures to reach
and the roofline (`benchmarks.gpu_report`).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks.gpu_report import report_gpu, torch_sees_gpu
from benchmarks.report import print_table, write_report
from benchmarks.turns import Contestant, contestant
from edge_asd.bundle import open_bundle
from edge_asd.cuda import Gpu
from edge_asd.engine.tensorrt import device_key_here
from edge_asd.errors import EdgeAsdError, UnavailableError

REFERENCE = "torch-eager"
CONTESTANTS = (
    REFERENCE,
    "torch-compile",
    "onnxruntime-fp32",
    "onnxruntime-int8",
    "openvino-fp32",
    "openvino-int8",
)
GPU_CONTESTANTS = (
    REFERENCE,
    "torch-compile",
    "tensorrt-fp32",
    "tensorrt-fp16",
    "tensorrt-int8",
    "tensorrt-int8-x16",
)
_ROOT = Path(__file__).resolve().parent.parent
_BUNDLE = _ROOT / "examples" / "bldc_motor" / "bldc-motor-1.0.0.asd"
_PAUSE_S = 0.1  # until the threads of the contestant before have gone to sleep
_WINDOWS_PER_BURST = 20
_GPU_WINDOWS_PER_BURST = 200
_ENOUGH_FOR_P999 = 2000


@dataclass(kw_only=True)
class _Runner:
    """One contestant's process, and what it has measured so far."""

    contestant: Contestant
    absent: str = ""  # why it measures nothing, or no more
    hop_ms: list[tuple[float, float, float]] = field(default_factory=list)  # latency, front end's part, CPU time
    whole_window_ms: list[tuple[float, float, float]] = field(default_factory=list)
    peak_rss_mb: float = 0.0

    def __post_init__(self) -> None:
        self.absent = self.contestant.ready.get("absent", "")

    def take_turn(self, n_windows: int) -> None:
        if self.absent:
            return
        try:
            answer = self.contestant.ask(str(n_windows))
        except RuntimeError as error:  # the others go on
            self.absent = str(error)
            return
        self.hop_ms += answer["hop"]
        self.whole_window_ms += answer.get("whole_window", [])
        self.peak_rss_mb = answer["peak_rss_mb"]

    def figures(self) -> dict[str, float]:
        latency_ms, features_ms, cpu_ms = np.array(self.hop_ms).T
        shares = (50, 90, 99, 99.9) if latency_ms.size >= _ENOUGH_FOR_P999 else (50, 90, 99)
        figures = {
            **{f"p{share:g}_ms": float(np.percentile(latency_ms, share)) for share in shares},
            "max_ms": float(latency_ms.max()),
            "features_p50_ms": float(np.percentile(features_ms, 50)),
            "cpu_p50_ms": float(np.percentile(cpu_ms, 50)),
            "n": float(latency_ms.size),
            "peak_rss_mb": self.peak_rss_mb,
        }
        if self.whole_window_ms:
            latency_ms, features_ms, _ = np.array(self.whole_window_ms).T
            figures["whole_window_p50_ms"] = float(np.percentile(latency_ms, 50))
            figures["whole_window_features_p50_ms"] = float(np.percentile(features_ms, 50))
        return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="few windows, without torch-compile, which takes a minute")
    parser.add_argument("--gpu", action="store_true", help="TensorRT and torch on the GPU")
    parser.add_argument("--json", type=Path, help="where to write the results (default: benchmarks/results)")
    parser.add_argument("--bundle", type=Path, default=_BUNDLE, help="model to measure (default: the example)")
    known = dict.fromkeys((*CONTESTANTS, *GPU_CONTESTANTS))
    parser.add_argument("--only", nargs="+", choices=known, metavar="NAME", help=", ".join(known))
    options = parser.parse_args(arguments)
    try:
        bundle = open_bundle(options.bundle)
        gpu = gpu_here() if options.gpu else None
    except EdgeAsdError as error:
        parser.exit(error.exit_code, f"{parser.prog}: {error}\n")
    all_names = GPU_CONTESTANTS if options.gpu else CONTESTANTS
    names = options.only or [name for name in all_names if not (options.quick and name == "torch-compile")]
    absent: dict[str, str] = {}
    if gpu is not None and not torch_sees_gpu():
        absent |= dict.fromkeys(_of("torch", names), "torch is not here or has no CUDA")
    if gpu is not None and "no_tensorrt" in gpu:
        absent |= dict.fromkeys(_of("tensorrt", names), gpu["no_tensorrt"])
    per_burst = _GPU_WINDOWS_PER_BURST if options.gpu else _WINDOWS_PER_BURST
    rounds, n_windows = (3, 5) if options.quick else (20, per_burst)
    device = "cuda" if options.gpu else "cpu"
    here = [name for name in names if name not in absent]
    contestants, ended = measure(here, options.bundle, rounds=rounds, n_windows=n_windows, device=device)
    absent |= ended
    for name, reason in absent.items():
        print(f"{name} is not measured: {reason}", file=sys.stderr)
    if not contestants and (gpu is None or options.only):
        parser.exit(UnavailableError.exit_code, f"{parser.prog}: no contestant is left to measure\n")
    ratios = ratios_to_reference(contestants)
    manifest = bundle.manifest
    details: dict[str, Any] = {
        "model": {"name": manifest.name, "version": manifest.version, "classes": len(manifest.classes)},
        **({"absent": absent} if absent else {}),
    }
    if gpu is not None:
        report = report_gpu(options.bundle, contestants)
        contestants |= {name: dict(figures) for name, figures in report.front_end.items()}
        details |= {"gpu": {**gpu, **report.gpu}, **report.details}
    benchmark = "latency-gpu" if options.gpu else "latency"
    print_table(benchmark, contestants, ratios)
    if gpu is not None:
        report.print_figures()
    write_report(benchmark, contestants, ratios, path=options.json, details=details, program="benchmarks.latency")
    return 0


def gpu_here() -> dict[str, str]:
    """What the figures are of: GPU and TensorRT, or why there is none under `no_tensorrt`.

    Raises:
        UnavailableError: there is no driver, no GPU, or the driver is too old.
        CudaError: the GPU cannot be used.
    """
    with Gpu() as gpu:
        name = f"{gpu.name} {gpu.architecture}"
    try:
        return dict(device_key_here())
    except UnavailableError as error:
        return {"gpu": name, "no_tensorrt": str(error)}


def _of(engine: str, names: Sequence[str]) -> list[str]:
    return [name for name in names if name.startswith(f"{engine}-")]


def measure(
    names: Sequence[str], bundle: Path, *, rounds: int, n_windows: int, device: str = "cpu"
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Let the contestants take turns: in every round each scores n_windows, in an order that rotates.

    Returns:
        Figures by contestant, and of those that could not be measured to the end, the reason.
    """
    with ExitStack() as stack:
        arguments = (str(bundle.resolve()), device)
        runners: dict[str, _Runner] = {}
        absent: dict[str, str] = {}
        for name in names:
            try:
                opened = stack.enter_context(contestant("benchmarks.contestant", (name, *arguments)))
                runners[name] = _Runner(contestant=opened)
            except RuntimeError as error:
                absent[name] = str(error)
        for number in track(range(rounds), "measuring", transient=True, disable=not sys.stderr.isatty()):
            first = number % len(names) if names else 0
            for name in (*names[first:], *names[:first]):
                if name in runners:
                    runners[name].take_turn(n_windows)
                    time.sleep(_PAUSE_S)
        absent |= {name: runner.absent for name, runner in runners.items() if runner.absent}
        return {name: runner.figures() for name, runner in runners.items() if not runner.absent}, absent


def ratios_to_reference(contestants: dict[str, dict[str, float]]) -> dict[str, float]:
    """Median latency over that of torch eager, for each contestant but itself; none where it was not measured."""
    if REFERENCE not in contestants:
        return {}
    reference_ms = contestants[REFERENCE]["p50_ms"]
    ratios = {name: figures["p50_ms"] / reference_ms for name, figures in contestants.items() if name != REFERENCE}
    for name, figures in contestants.items():
        if "whole_window_p50_ms" in figures:
            ratios[f"{name}-whole-window"] = figures["whole_window_p50_ms"] / reference_ms
    return ratios


if __name__ == "__main__":
    sys.exit(main())

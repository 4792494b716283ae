"""A contestant's name and a bundle in, on each line of stdin a burst of windows, its latencies out as a line of JSON.

A name that ends in x16, as tensorrt-int8-x16, is that of 16 machines whose windows are due together. On a machine with
a GPU, `cuda` as a third argument puts torch there. `benchmarks.latency` starts one such process a contestant. The sound
is that of the bundle's golden windows, played again and again; each window moves on by the default hop.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np

from edge_asd.bundle import Bundle, Golden, Manifest, Precision, open_bundle
from edge_asd.engine import Workload
from edge_asd.errors import EdgeAsdError
from edge_asd.pipeline import Pipeline, open_pipeline
from edge_asd.types import Block, Window
from edge_asd.window import Windower

HOP_SAMPLES = 15_360
# Of each burst: caches and threads were another contestant's, and a GPU that was idle has slowed its clocks.
_WARM_UP_WINDOWS = {"cpu": 3, "cuda": 50}

Score: TypeAlias = Callable[[Window], tuple[float, float]]
"""Scores a window; returns the part of its time that the front end took, in ms, and the score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """How one contestant scores, and whether its front end reuses frames from window to window."""

    score: Score
    reuses_frames: bool


def main() -> None:
    """Serve bursts until stdin ends."""
    name, bundle_path, device = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    bundle = open_bundle(bundle_path)
    try:
        contestant = _opened(name, bundle_path, device)
    except EdgeAsdError as error:
        print(json.dumps({"absent": str(error)}), flush=True)
        sys.exit(error.exit_code)
    windows = _windows(bundle.golden, bundle.manifest)
    del bundle
    for _ in range(2):  # the first takes as long as compilation does
        contestant.score(next(windows))
    print(json.dumps({"ready": name}), flush=True)
    for line in sys.stdin:
        n_windows = int(line)
        n_warm_up = _WARM_UP_WINDOWS[device]
        burst = {"hop": _burst(contestant.score, windows, n_windows, n_warm_up)}
        if contestant.reuses_frames:
            afresh = (replace(window, fresh_samples=len(window.wave)) for window in windows)
            burst["whole_window"] = _burst(contestant.score, afresh, n_windows, n_warm_up)
        print(json.dumps({**burst, "peak_rss_mb": _peak_rss_mb()}), flush=True)


def _opened(name: str, bundle_path: Path, device: str) -> Contestant:
    return _open_torch(name, bundle_path, device) if name.startswith("torch-") else _open_product(name, bundle_path)


def _burst(score: Score, windows: Iterator[Window], n_windows: int, n_warm_up: int) -> list[tuple[float, float, float]]:
    """(latency, front end's part of it, CPU time of all threads) of each window, in ms."""
    times_ms = []
    for number in range(-n_warm_up, n_windows):
        window = next(windows)
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        features_ms, z = score(window)
        latency_ms = 1e3 * (time.perf_counter() - began_s)
        cpu_ms = 1e3 * (time.process_time() - began_cpu_s)
        if not np.isfinite(z):
            raise ArithmeticError(f"the score is {z}; expected a number: the latency would be that of a fault")
        if number >= 0:
            times_ms.append((latency_ms, features_ms, cpu_ms))
    return times_ms


def _windows(golden: Golden, manifest: Manifest) -> Iterator[Window]:
    sound = golden.wave.reshape(-1)
    windower = Windower(manifest.feature_spec, HOP_SAMPLES)
    position = 0
    while True:
        samples = np.take(sound, range(position, position + HOP_SAMPLES), mode="wrap")
        position += HOP_SAMPLES
        end_s = position / manifest.feature_spec.sample_rate_hz
        yield from windower.push(Block(samples=samples, end_monotonic_s=end_s, end_utc_s=end_s))


def _open_product(name: str, bundle_path: Path) -> Contestant:
    """The device's own path: `Pipeline.score`."""
    engine, precision, *machines = name.split("-")
    n_machines = int(machines[0].removeprefix("x")) if machines else 1
    bundle = open_bundle(bundle_path)
    workload = Workload(n_machines=n_machines, hop_samples=HOP_SAMPLES)
    if precision == "fp16" and "model.fp16.onnx" not in bundle.manifest.files:
        pipeline = _half_pipeline(bundle, workload)
    else:
        pipeline = open_pipeline(bundle, prefer=[engine], precision=cast("Precision", precision), workload=workload)
    ears = [pipeline.ear(bundle.manifest.classes[0]) for _ in range(n_machines)]

    def score(window: Window) -> tuple[float, float]:
        scored = pipeline.score([(ear, window) for ear in ears])
        return scored[0].features_ms, scored[-1].score

    return Contestant(score=score, reuses_frames=True)


def _half_pipeline(bundle: Bundle, workload: Workload) -> Pipeline:
    """TensorRT on the half-precision network that the export would put into the bundle."""
    from edge_asd.engine.tensorrt import open_tensorrt
    from export.half import half_from_fp32

    engine = open_tensorrt(
        half_from_fp32(bundle.onnx_model("fp32")),
        bundle.manifest,
        precision="fp16",
        n_machines=workload.n_machines,
        hop_samples=workload.hop_samples,
        artifacts=None,
    )
    return Pipeline(bundle, engine)


def _open_torch(name: str, bundle_path: Path, device: str) -> Contestant:
    """As a user of the published code runs it: float32, log-mel with a dense mel product, default threads.

    The weights are random: they change no latency.
    """
    import torch  # the other contestants are measured without it

    from edge_asd.score import MarginScorer
    from train.features import LogMel
    from train.network import Network, NetworkSpec

    manifest = open_bundle(bundle_path).manifest
    scorer = MarginScorer(manifest.scorer.scale, manifest.scorer.margin, n_classes=len(manifest.classes))
    torch.manual_seed(0)
    front_end = LogMel(manifest.feature_spec).eval().to(device)
    network = Network(NetworkSpec(n_classes=len(manifest.classes)), manifest.feature_spec).eval().to(device)
    if name == "torch-compile":
        mode = "max-autotune" if device == "cuda" else None  # which records CUDA graphs
        front_end.compile(mode=mode)
        network.compile(mode=mode)

    mark_step: Callable[[], None] = torch.compiler.cudagraph_mark_step_begin

    def score(window: Window) -> tuple[float, float]:
        with torch.inference_mode():
            mark_step()  # what the last window left may be overwritten
            began_s = time.perf_counter()
            wave = torch.from_numpy(window.wave.copy())[None].to(device)  # torch wants an array that it could write to
            log_mel = front_end(wave)
            features_ms = 1e3 * (time.perf_counter() - began_s)
            _, cosine = network(wave, log_mel)
        return features_ms, float(scorer.score(cosine.cpu().numpy(), 0)[0])

    return Contestant(score=score, reuses_frames=False)


def _peak_rss_mb() -> float:
    """High-water mark of this program; getrusage's would hold that of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    main()

"""A bundle in, what this GPU does at best and how long its front end takes beside that, as a line of JSON, out.

`benchmarks.latency --gpu` starts it as a process of its own. Times are those of one launch among many in a CUDA graph,
so that neither the host nor the start of a graph counts. All data fit a large GPU's cache; so do those of the copy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from benchmarks.roofline import Ceilings, front_end_work
from edge_asd.bundle import Manifest, Precision, open_bundle
from edge_asd.cuda import ROW, FrontEndBuffers, Gpu, LogMelKernels, Nvrtc, log_mel_cubin
from edge_asd.errors import EdgeAsdError

N_LAUNCHES, N_REPEATS = 200, 15
_N_CEILING_LAUNCHES = 10
_THREADS = 256
_COPY_BYTES = 256 * 2**20
_MOST_BLOCKS = 4096
_FMA_STEPS = 2048
_BATCHES = (1, 16)
_SOURCE = Path(__file__).with_name("ceilings.cu")


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_front_end")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--with-torch", action="store_true", help="torch.stft and a product with the mel filters, too")
    options = parser.parse_args()
    try:
        manifest = open_bundle(options.bundle).manifest
        with Gpu() as gpu, gpu.current():
            ceilings = measured_ceilings(gpu)
            contestants = front_end_times(gpu, manifest, ceilings)
            details = {"binding": gpu.binding, "memory_mb": gpu.free_bytes()[1] / 1e6}
    except EdgeAsdError as error:
        parser.exit(error.exit_code, f"{parser.prog}: {error}\n")
    if options.with_torch:
        contestants |= torch_times(manifest)
        ceilings = replace(ceilings, operations_per_s={**ceilings.operations_per_s, **torch_ceilings()})
    sys.stdout.write(json.dumps({"ceilings": asdict(ceilings), "contestants": contestants, "gpu": details}) + "\n")


def measured_ceilings(gpu: Gpu) -> Ceilings:
    """Bytes a second of a copy, read and written both counted, and float32 operations a second of multiply-adds."""
    copy, multiply_add = _ceiling_kernels(gpu)
    first, second = (np.uint64(gpu.allocate(_COPY_BYTES, "a copy")) for _ in range(2))
    n_quads = np.int32(_COPY_BYTES // 16)
    out = np.uint64(gpu.allocate(4 * _MOST_BLOCKS * _THREADS, "sums"))
    copy_ms = _launch_ms(gpu, lambda: copy((_MOST_BLOCKS, 1), _THREADS, first, second, n_quads), _N_CEILING_LAUNCHES)
    fma_ms = _launch_ms(
        gpu, lambda: multiply_add((_MOST_BLOCKS, 1), _THREADS, out, np.int32(_FMA_STEPS)), _N_CEILING_LAUNCHES
    )
    operations = 16.0 * _FMA_STEPS * _MOST_BLOCKS * _THREADS
    return Ceilings(
        bytes_per_s=2e3 * _COPY_BYTES / copy_ms,
        operations_per_s={"fp32": 1e3 * operations / fma_ms},
    )


def front_end_times(gpu: Gpu, manifest: Manifest, ceilings: Ceilings) -> dict[str, dict[str, float]]:
    """Of the log-mel kernel, the rings and a copy of the kernel's input and output, for one machine and for sixteen.

    The kernel takes longer for frames with faint bands: measured for noise, which has none, and for a tone, which has
    nothing else.
    """
    spec = manifest.feature_spec
    kernels = LogMelKernels(gpu, spec, log_mel_cubin(spec, gpu.architecture, None, Nvrtc))
    copy, _ = _ceiling_kernels(gpu)
    work = front_end_work(spec)
    most = _BATCHES[-1]
    random = np.random.default_rng(0)
    seconds = np.arange(spec.window_samples) / spec.sample_rate_hz
    noise = (0.1 * random.standard_normal((most, spec.window_samples))).astype(np.float32)
    tone = np.tile(0.5 * np.sin(2.0 * np.pi * 1000.3 * seconds), (most, 1)).astype(np.float32)  # no frame is easy
    rows = np.array([(row, 0, 0, 0) for row in range(most)], dtype=ROW)
    n_log_mel_bytes = 4 * most * spec.n_mels * spec.n_frames
    buffers = FrontEndBuffers(
        rows=gpu.constant(rows, "rows"),
        fresh=gpu.allocate(4, "fresh sound"),
        max_fresh=1,
        rings=gpu.constant(noise, "rings"),
        wave=gpu.constant(noise, "windows"),
        log_mel=gpu.allocate(n_log_mel_bytes, "log-mels"),
        not_finite=gpu.allocate(4 * most, "flags"),
    )
    tones = replace(buffers, wave=gpu.constant(tone, "windows"))
    copied = [np.uint64(gpu.allocate(most * int(work.n_bytes), "a copy")) for _ in range(2)]
    found = {}
    for n_rows in _BATCHES:
        suffix = f"-x{n_rows}" if n_rows > 1 else ""
        n_quads = np.int32(n_rows * work.n_bytes // 16)
        blocks = min(_MOST_BLOCKS, -(-int(n_quads) // _THREADS))
        bound_us = 1e3 * n_rows * work.bound_ms(ceilings)
        for name, put in (
            ("log-mel", lambda n=n_rows: kernels.put_log_mel(buffers, n)),
            ("log-mel-of-a-tone", lambda n=n_rows: kernels.put_log_mel(tones, n)),
            ("rings", lambda n=n_rows: kernels.put_rings(buffers, n)),
            ("copy", lambda n=n_quads, b=blocks: copy((b, 1), _THREADS, *copied, n)),
        ):
            found[name + suffix] = {"launch_us": 1e3 * _launch_ms(gpu, put, N_LAUNCHES)}
        found[f"log-mel{suffix}"]["bound_us"] = bound_us
    return found


def torch_times(manifest: Manifest) -> dict[str, dict[str, float]]:
    """Of torch.stft and a dense product with the mel filters, as a CUDA graph, for one machine and for sixteen."""
    import torch  # not everywhere, and large

    from train.features import LogMel

    spec = manifest.feature_spec
    front_end = LogMel(spec).eval().cuda()
    found = {}
    with torch.inference_mode():
        for n_rows in _BATCHES:
            wave = 0.1 * torch.randn(n_rows, spec.window_samples, device="cuda")
            for _ in range(3):  # plans and kernels are chosen ahead of a recording
                front_end(wave)
            torch.cuda.synchronize()
            graphs = []
            for n_launches in (20, 40):
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    for _ in range(n_launches):
                        front_end(wave)
                graphs.append(graph)

            def run(number: int, graphs: list[torch.cuda.CUDAGraph] = graphs) -> None:
                graphs[number].replay()
                torch.cuda.synchronize()

            suffix = f"-x{n_rows}" if n_rows > 1 else ""
            found[f"torch-stft-mel{suffix}"] = {"launch_us": 1e3 * _difference_ms(run) / 20}
    return found


def torch_ceilings(size: int = 8192) -> dict[Precision, float]:
    """Operations a second of a product of large matrices in half precision and in INT8: what the tensor cores give."""
    import torch

    halves = [torch.randn(size, size, device="cuda", dtype=torch.float16) for _ in range(2)]
    integers = [torch.randint(-8, 8, (size, size), device="cuda", dtype=torch.int8) for _ in range(2)]
    products: dict[Precision, Callable[[], torch.Tensor]] = {
        "fp16": lambda: torch.mm(*halves),
        "int8": lambda: torch._int_mm(*integers),  # noqa: SLF001 - torch's one product of INT8 matrices
    }
    found = {}
    for precision, product in products.items():

        def run(number: int, product: Callable[[], torch.Tensor] = product) -> None:
            for _ in range(number + 1):
                product()
            torch.cuda.synchronize()

        found[precision] = 1e3 * 2.0 * size**3 / _difference_ms(run)
    return found


def _ceiling_kernels(gpu: Gpu) -> tuple[Callable[..., None], ...]:
    source = _SOURCE.read_text(encoding="utf-8")
    cubin = Nvrtc().cubin(source, name=_SOURCE.name, architecture=gpu.architecture, options=())
    return gpu.kernels(cubin, ("copy_all", "multiply_add"))


def _launch_ms(gpu: Gpu, put: Callable[[], None], n_launches: int) -> float:
    """Time of one launch: the difference of two graphs, of which one holds twice as many."""

    def recorded(n: int) -> Callable[[], None]:
        def work() -> None:
            for _ in range(n):
                put()

        return gpu.captured(work)

    put()
    gpu.synchronize()
    graphs = [recorded(n_launches), recorded(2 * n_launches)]

    def run(number: int) -> None:
        graphs[number]()
        gpu.synchronize()

    return _difference_ms(run) / n_launches


def _difference_ms(run: Callable[[int], None]) -> float:
    """How much longer run(1) takes than run(0): median of several, after one of each to warm up."""
    differences_ms = []
    for _ in range(N_REPEATS + 1):
        times_s = []
        for number in (0, 1):
            began_s = time.perf_counter()
            run(number)
            times_s.append(time.perf_counter() - began_s)
        differences_ms.append(1e3 * (times_s[1] - times_s[0]))
    return statistics.median(differences_ms[1:])


if __name__ == "__main__":
    main()

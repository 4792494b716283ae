"""A checkpoint, its bundle and clips in, TensorRT engines of this GPU by ONNX and by torch-tensorrt, compared, out."""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from edge_asd.bundle import Bundle, Precision, TensorSpec, open_bundle
from edge_asd.bundle.archive import write_durably
from edge_asd.cuda import Gpu
from edge_asd.engine.tensorrt.build import BuildSettings, build_engine
from edge_asd.engine.tensorrt.library import import_tensorrt, make_logger
from edge_asd.errors import EdgeAsdError, UnavailableError, UsageError
from export.compare import PRECISIONS, check_same_model, facts, scorer_of
from export.comparison import REFERENCE, compare, labelled_trial, print_comparison, write_comparison
from export.half import half_from_fp32
from export.plan_runner import PlanRunner
from export.runners import Runner, runner_from_network
from export.torch_tensorrt_plan import OUTPUT_NAME, plan_from_network
from export.windows import find_calibration_clips, read_windows
from train.checkpoint import Checkpoint, load_checkpoint, network_for_device
from train.network import Network

TORCH_TENSORRT = "torch-tensorrt-fp32"
FIGURES_NAME = "tensorrt.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A serialized engine for one window: `content`, its tensors by their names in it, and what building took."""

    content: bytes
    tensors: Mapping[str, TensorSpec]
    build_s: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m export.tensorrt",
        description="Build TensorRT engines for one window on this machine's GPU, by ONNX in each precision and by "
        "torch-tensorrt in float32, and compare them with torch on labelled clips.",
        epilog="An engine runs on the GPU model and TensorRT that built it: devices build their own from the bundle. "
        "Example: python -m export.tensorrt runs/bldc bldc-motor-1.0.0.asd --clips data/bldc_motor --out engines",
    )
    parser.add_argument("checkpoint", type=Path, help="checkpoint file or run folder of python -m train.fit")
    parser.add_argument("bundle", type=Path, help="what python -m export.bundle made of it")
    parser.add_argument("--clips", type=Path, required=True, metavar="FOLDER", help="data folder of the training")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for the engines and tensorrt.json")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")  # TensorRT's reasons
    try:
        checkpoint, bundle = load_checkpoint(options.checkpoint), open_bundle(options.bundle)
        check_same_model(checkpoint, bundle)
        _build_and_compare(checkpoint, bundle, options.clips, options.out, say)
    except EdgeAsdError as error:
        console.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return error.exit_code
    return 0


def _build_and_compare(
    checkpoint: Checkpoint, bundle: Bundle, clips_folder: Path, out: Path, say: Callable[[str], None]
) -> None:
    network, manifest = network_for_device(checkpoint), bundle.manifest
    with ExitStack() as stack:
        gpu = stack.enter_context(closing(Gpu()))  # probes the driver: without one, TensorRT may end the process
        trt = import_tensorrt()
        logger = make_logger(trt)
        files = _EngineFiles(out, f"{manifest.name}-{manifest.version}")
        clips = find_calibration_clips(clips_folder, checkpoint)
        read = partial(read_windows, clips_folder, classes=checkpoint.classes, spec=checkpoint.feature_spec)
        trial = labelled_trial(clips, read)
        stack.enter_context(gpu.current())
        plans, absent = build_plans(trt, logger, network, bundle, keep=files.write, say=say)
        runners: dict[str, Runner] = {REFERENCE: runner_from_network(network)}
        for name, plan in plans.items():
            runner = PlanRunner(trt, gpu, plan=plan.content, tensors=plan.tensors)
            runners[name] = stack.enter_context(closing(runner))
        found = compare(runners, trial, scorer_of(bundle))
        device = {"tensorrt": str(trt.__version__), "gpu": f"{gpu.name} {gpu.architecture}"}
    title = f"{manifest.name} {manifest.version} on {gpu.name}, TensorRT {trt.__version__}"
    print_comparison(title, found, Console(width=None if sys.stdout.isatty() else 160))
    for name, reason in absent.items():
        say(f"not here: {name}: {reason}")
    engines = {
        name: {
            "build_s": plan.build_s,
            "engine_bytes": len(plan.content),
            "sha256": hashlib.sha256(plan.content).hexdigest(),
        }
        for name, plan in plans.items()
    }
    details = {**facts(bundle, trial.n_pairs()), "device": device, "engines": engines}
    write_comparison(out / FIGURES_NAME, "export.tensorrt", found, absent=absent, details=details)


def build_plans(
    trt: Any,
    logger: Any,
    network: Network,
    bundle: Bundle,
    *,
    keep: Callable[[str, bytes], None],
    say: Callable[[str], None],
) -> tuple[dict[str, Plan], dict[str, str]]:
    """Engines by name, and why torch-tensorrt's is missing where it is.

    keep: is given each by its name as soon as it is built: the next one may take minutes and fail.

    Raises:
        UnavailableError: TensorRT cannot build a network of the bundle.
    """
    inputs, outputs = bundle.manifest.inputs, bundle.manifest.outputs
    tensors = {spec.name: spec for spec in (*inputs, *outputs)}
    plans: dict[str, Plan] = {}
    for precision in PRECISIONS:
        began_s = time.monotonic()
        settings = BuildSettings(precision=precision, batch_sizes=(1,))
        built = build_engine(trt, logger, _model(bundle, precision), inputs, settings, timings=None, say=say)
        name = f"tensorrt-{precision}"
        plans[name] = Plan(content=built.plan, tensors=tensors, build_s=time.monotonic() - began_s)
        keep(name, built.plan)
    say("converting by torch-tensorrt: this takes minutes")
    began_s = time.monotonic()
    try:
        content = plan_from_network(network, inputs)
    except UnavailableError as error:
        return plans, {TORCH_TENSORRT: str(error)}
    renamed = {spec.name: spec for spec in inputs}
    renamed |= {OUTPUT_NAME.format(place): spec for place, spec in enumerate(outputs)}
    plans[TORCH_TENSORRT] = Plan(content=content, tensors=renamed, build_s=time.monotonic() - began_s)
    keep(TORCH_TENSORRT, content)
    return plans, {}


def _model(bundle: Bundle, precision: Precision) -> bytes:
    """That of the bundle; half precision is made where it was left out."""
    if precision == "fp16" and "model.fp16.onnx" not in bundle.manifest.files:
        return half_from_fp32(bundle.onnx_model("fp32"))
    return bundle.onnx_model(precision)


class _EngineFiles:
    """The folder of the figures and of the engines, each of which is there whole or not at all.

    Raises:
        UsageError: the folder, or a file that is to be replaced, cannot be written.
    """

    def __init__(self, out: Path, stem: str) -> None:
        self._out = out
        self._stem = stem
        with self._told():
            out.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=out).close()
            for earlier in [*out.glob(FIGURES_NAME), *out.glob(f"{stem}.*.engine")]:
                earlier.open("ab").close()

    def write(self, name: str, content: bytes) -> None:
        """Write the engine of that name.

        Raises:
            UsageError: the disk refuses.
        """
        with self._told():
            write_durably(self._out / f"{self._stem}.{name}.engine", content)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UsageError(
                f"--out {self._out}: cannot be written ({error}); expected a folder to write into, with room; give "
                "another --out"
            ) from error


if __name__ == "__main__":
    sys.exit(main())

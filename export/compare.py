"""A checkpoint, its bundle and clips in, a table of torch and every engine of this machine on the same clips out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from edge_asd.bundle import Bundle, Precision, open_bundle
from edge_asd.engine import ENGINE_NAMES, open_engine
from edge_asd.errors import BundleError, EdgeAsdError, UnavailableError
from edge_asd.score import MarginScorer
from export.comparison import REFERENCE, compare, labelled_trial, print_comparison, write_comparison
from export.runners import Runner, runner_from_network
from export.windows import find_calibration_clips, read_windows
from train.checkpoint import Checkpoint, load_checkpoint, network_for_device

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
NAMES = tuple(f"{engine}-{precision}" for engine, precision in product(ENGINE_NAMES, PRECISIONS))

_MIN_GOLDEN_COSINE = 0.999
"""Of the float32 network to itself on another machine; trainings that differ in their seed alone are far below."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m export.compare",
        description="Run torch, ONNX Runtime, OpenVINO and TensorRT, those that are here, on the same labelled clips.",
        epilog="Example: python -m export.compare runs/bldc bldc-motor-1.0.0.asd --clips data/bldc_motor",
    )
    parser.add_argument("checkpoint", type=Path, help="checkpoint file or run folder of python -m train.fit")
    parser.add_argument("bundle", type=Path, help="what python -m export.bundle made of it")
    parser.add_argument("--clips", type=Path, required=True, metavar="FOLDER", help="data folder of the training")
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, metavar="NAME", help=f"fail where one cannot be had: {', '.join(NAMES)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures and the environment")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        checkpoint, bundle = load_checkpoint(options.checkpoint), open_bundle(options.bundle)
        check_same_model(checkpoint, bundle)
        with ExitStack() as stack:
            runners, absent = _runners(checkpoint, bundle, options.only, stack)
            clips = find_calibration_clips(options.clips, checkpoint)
            read = partial(read_windows, options.clips, classes=checkpoint.classes, spec=checkpoint.feature_spec)
            trial = labelled_trial(clips, read)
            found = compare(runners, trial, scorer_of(bundle))
        title = (
            f"{bundle.manifest.name} {bundle.manifest.version} on {len(trial.class_names)} clips that it did not learn"
        )
        print_comparison(title, found, Console(width=None if sys.stdout.isatty() else 160))
        for name, reason in absent.items():
            console.print(f"not here: {name}: {reason}", highlight=False, markup=False, soft_wrap=True)
        if options.json:
            write_comparison(
                options.json, "export.compare", found, absent=absent, details=facts(bundle, trial.n_pairs())
            )
    except EdgeAsdError as error:
        console.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return error.exit_code
    return 0


def check_same_model(checkpoint: Checkpoint, bundle: Bundle) -> None:
    """Make sure that a bundle is of a checkpoint.

    Raises:
        BundleError: it has other classes or another front end, or its golden values are of other weights.
    """
    manifest = bundle.manifest
    if (manifest.classes, manifest.feature_spec) != (checkpoint.classes, checkpoint.feature_spec):
        raise BundleError(
            f"{bundle.path} has classes {', '.join(manifest.classes)} and {manifest.feature_spec}; the checkpoint has "
            f"{', '.join(checkpoint.classes)} and {checkpoint.feature_spec}; expected the bundle made of it; export it"
        )
    golden = bundle.golden
    found = runner_from_network(network_for_device(checkpoint))(golden.wave.copy(), golden.log_mel.copy())
    cosine = float((found.embedding * golden.embedding).sum(axis=1).min())
    if not cosine >= _MIN_GOLDEN_COSINE:
        raise BundleError(
            f"{bundle.path}: on its golden windows the checkpoint's embedding has cosine {cosine:.4f} to the bundle's; "
            f"expected {_MIN_GOLDEN_COSINE} or more: the bundle was made of another training; give the checkpoint that "
            "it was made of, or export it again"
        )


def scorer_of(bundle: Bundle) -> MarginScorer:
    """The bundle's margin score."""
    manifest = bundle.manifest
    return MarginScorer(manifest.scorer.scale, manifest.scorer.margin, n_classes=len(manifest.classes))


def facts(bundle: Bundle, n_pairs: int) -> dict[str, Any]:
    """What a comparison was made with, for its JSON."""
    manifest = bundle.manifest
    model = {"name": manifest.name, "version": manifest.version, "sha256": bundle.sha256}
    return {"model": model, "auc_pairs": n_pairs}


def _runners(
    checkpoint: Checkpoint, bundle: Bundle, only: Sequence[str] | None, stack: ExitStack
) -> tuple[dict[str, Runner], dict[str, str]]:
    runners = {REFERENCE: runner_from_network(network_for_device(checkpoint))}
    absent: dict[str, str] = {}
    for name in only or NAMES:
        engine, _, precision = name.rpartition("-")
        try:
            opened = open_engine(bundle, prefer=[engine], precision=cast("Precision", precision))
        except (UnavailableError, BundleError) as error:
            if only:
                raise
            absent[name] = str(error)
            continue
        runners[name] = stack.enter_context(opened).infer
    return runners, absent


if __name__ == "__main__":
    sys.exit(main())

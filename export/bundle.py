"""A checkpoint and a folder of labelled clips in, a verified NAME-VERSION.asd and its parity report out."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from itertools import product
from pathlib import Path

import numpy as np
from rich.console import Console

from edge_asd.bundle import (
    Bundle,
    ClassFigures,
    EngineName,
    Metrics,
    ModelDescription,
    Precision,
    ScorerSpec,
    Threshold,
    tensor_specs,
    write_bundle,
)
from edge_asd.commands.bundle import print_bundle
from edge_asd.errors import EdgeAsdError, UsageError
from edge_asd.pipeline import open_pipeline
from edge_asd.score import MarginScorer
from edge_asd.types import FloatArray
from export.card import CardFacts, model_card
from export.golden import golden_clips, golden_tolerance, golden_values
from export.half import half_from_fp32
from export.onnx_model import onnx_from_network
from export.parity import Evaluated, detection_figures, evaluate, parity_figures
from export.quantize import MIN_EMBEDDING_COSINE, quantize
from export.runners import runner_from_network, runner_from_onnx
from export.thresholds import Target, fit_thresholds, score_ceiling
from export.windows import Clips, Windows, find_calibration_clips, read_windows, with_louder
from train.checkpoint import Checkpoint, load_checkpoint, network_for_device
from train.data import Recording

# Thresholds are fitted on what a device runs by default.
_SERVED: Precision = "int8"
# ONNX Runtime computes Q and DQ as the operators are defined; other engines may fuse and round otherwise.
_REFERENCE: EngineName = "onnxruntime"
# Of the device's engines, those of a workstation.
_ENGINES: tuple[EngineName, ...] = ("openvino", "onnxruntime")
# INT8 ranges settle on far fewer clips than a data set may hold.
_MAX_RANGE_CLIPS = 100
_OUT_NAME = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]*?)-(?P<version>[0-9][0-9A-Za-z.+]*)\.asd$")


def export_bundle(
    checkpoint: Checkpoint,
    folder: Path,
    out: Path,
    *,
    false_alarms_per_day: float,
    about: str,
    half: bool = True,
    say: Callable[[str], None],
) -> Bundle:
    """Export, quantize, compare, fit thresholds and write the bundle.

    Args:
        checkpoint: the trained network.
        folder: data folder in any layout.
        out: NAME-VERSION.asd, where the model's name and version come from.
        false_alarms_per_day: target of the thresholds, a class.
        about: Markdown on data, licence, attribution and use, for the model card.
        half: whether the half-precision network, which GPUs alone gain from, is among them.
        say: is told what happens.

    Raises:
        UsageError: the path, the folder or the target cannot be used.
        ClipError: a clip cannot be used.
        EdgeAsdError: the network does not export or quantize.
    """
    name, version = _name_and_version(out)
    network = network_for_device(checkpoint)
    clips = find_calibration_clips(folder, checkpoint)
    spec = checkpoint.feature_spec
    target = Target(false_alarms_per_day=false_alarms_per_day, window_s=spec.window_samples / spec.sample_rate_hz)

    def windows(recordings: Sequence[Recording]) -> Iterator[Windows]:
        return read_windows(folder, recordings, classes=checkpoint.classes, spec=spec)

    say("exporting to ONNX")
    onnx_fp32 = onnx_from_network(network, spec)
    range_clips = _spread(clips.for_ranges, _MAX_RANGE_CLIPS)
    say(f"quantizing to INT8 with ranges of {len(range_clips)} healthy clips, as they are and louder")
    int8 = quantize(onnx_fp32, lambda: with_louder(windows(range_clips), spec), say=say)
    models: dict[Precision, bytes] = {
        "fp32": onnx_fp32,
        **({"fp16": half_from_fp32(onnx_fp32)} if half else {}),
        "int8": int8.model,
    }

    say(f"comparing torch, {', '.join(models)} on {len(clips.everything)} clips")
    scorer = MarginScorer(network.spec.scale, network.spec.margin, n_classes=network.spec.n_classes)
    runners = {"torch": runner_from_network(network)}
    for precision, engine in product(models, _ENGINES):
        runners[f"{precision} {engine}"] = runner_from_onnx(models[precision], precision, engine)
    evaluated = evaluate(runners, windows(clips.everything), scorer)
    parity = tuple(
        parity_figures(precision, engine, evaluated["torch"], evaluated[f"{precision} {engine}"])
        for precision, engine in product(models, _ENGINES)
    )

    thresholds = _thresholds(checkpoint, clips, evaluated[f"{_SERVED} {_REFERENCE}"], scorer, target)
    inputs, outputs = tensor_specs(spec, len(checkpoint.classes))
    description = ModelDescription(
        name=name,
        version=version,
        created_utc=datetime.now(timezone.utc).replace(microsecond=0),
        feature_spec=spec,
        inputs=inputs,
        outputs=outputs,
        classes=checkpoint.classes,
        scorer=ScorerSpec(scale=network.spec.scale, margin=network.spec.margin),
        thresholds=thresholds,
        golden_tolerance=golden_tolerance(parity),
        metrics=Metrics(
            float_layers=int8.float_layers,
            parity=parity,
            test=_test_figures(clips, evaluated, thresholds, precisions=tuple(models)),
        ),
    )
    facts = CardFacts(
        description=description,
        network=network.spec,
        n_parameters=sum(parameter.numel() for parameter in network.parameters()),
        clips=clips,
        training=checkpoint.training,
        about=about,
    )
    return write_bundle(
        out,
        description,
        onnx_fp32=onnx_fp32,
        onnx_fp16=models.get("fp16"),
        onnx_int8=int8.model,
        golden=golden_values(next(windows(golden_clips(clips))), onnx_fp32, scorer),
        model_card=model_card(facts),
    )


def _name_and_version(out: Path) -> tuple[str, str]:
    match = _OUT_NAME.match(out.name)
    if match is None:
        raise UsageError(f"--out is {out}; expected NAME-VERSION.asd, as in fan-hall-2-1.0.0.asd; rename it so")
    if not out.parent.is_dir():
        raise UsageError(f"--out is {out}; expected an existing folder, {out.parent} is none; make it")
    return match["name"], match["version"]


def _spread(recordings: Sequence[Recording], n_most: int) -> tuple[Recording, ...]:
    """At most so many, spread evenly over all."""
    places = np.unique(np.linspace(0, len(recordings) - 1, min(n_most, len(recordings))).round().astype(int))
    return tuple(recordings[place] for place in places)


def _thresholds(
    checkpoint: Checkpoint, clips: Clips, served: Evaluated, scorer: MarginScorer, target: Target
) -> dict[str, Threshold]:
    names = np.array([recording.class_name for recording in clips.for_ranges])
    scores: FloatArray = served.score[: len(names)]  # evaluated in the order of clips.everything
    is_fresh = np.arange(len(names)) >= len(clips.trained)
    weight = network_for_device(checkpoint).class_weight.detach().numpy()
    weight = weight / np.linalg.norm(weight, axis=1, keepdims=True)  # (classes, 128)
    calibrated = [class_name for class_name in checkpoint.classes if class_name in names[is_fresh]]
    return fit_thresholds(
        {class_name: scores[is_fresh & (names == class_name)] for class_name in calibrated},
        target,
        trained_scores={class_name: scores[~is_fresh & (names == class_name)] for class_name in calibrated},
        ceilings={
            class_name: score_ceiling(weight @ weight.T, checkpoint.classes.index(class_name), scorer)
            for class_name in calibrated
        },
        precision=_SERVED,
    )


def _test_figures(
    clips: Clips,
    evaluated: dict[str, Evaluated],
    thresholds: dict[str, Threshold],
    *,
    precisions: Sequence[Precision],
) -> tuple[ClassFigures, ...]:
    n_test = len(clips.for_test)
    return tuple(
        figures
        for precision in precisions
        for figures in detection_figures(
            precision,
            evaluated[f"{precision} {_REFERENCE}"].score[len(clips.everything) - n_test :],
            class_names=[recording.class_name for recording in clips.for_test],
            is_anomaly=np.array([recording.label == "anomaly" for recording in clips.for_test], dtype=bool),
            thresholds=thresholds,
        )
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m export.bundle",
        description="Make the bundle that a device runs: float32 and INT8, thresholds, golden values, model card.",
        epilog="Example: python -m export.bundle runs/bldc --calibration data/bldc_motor --out bldc-motor-1.0.0.asd",
    )
    parser.add_argument("checkpoint", type=Path, help="checkpoint file or run folder of python -m train.fit")
    parser.add_argument(
        "--calibration",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="data folder (DCASE, MIMII, with a metadata.csv, or prepared): healthy clips that were not trained on "
        "give the thresholds, held-out and damaged ones the test figures",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="NAME-VERSION.asd", help="the bundle to write")
    parser.add_argument(
        "--false-alarms-per-day",
        type=float,
        default=1.0,
        metavar="RATE",
        help="target of the thresholds for each class, were each window an alarm of its own (default: %(default)g)",
    )
    parser.add_argument(
        "--about",
        type=Path,
        metavar="FILE",
        help="Markdown on data, licence, attribution and use, which opens the model card",
    )
    parser.add_argument(
        "--no-half",
        action="store_true",
        help="leave the half-precision network out, which GPUs alone gain from: the bundle is a quarter smaller",
    )
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        bundle = export_bundle(
            load_checkpoint(options.checkpoint),
            options.calibration,
            options.out,
            false_alarms_per_day=options.false_alarms_per_day,
            about=_text(options.about) if options.about else "",
            half=not options.no_half,
            say=lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True),
        )
        for engine in _ENGINES:
            console.print(_self_test(bundle, engine), highlight=False, markup=False, soft_wrap=True)
    except EdgeAsdError as error:
        console.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return error.exit_code
    print_bundle(bundle, console)
    for line in _warnings(bundle):
        console.print(f"warning: {line}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    print(options.out)
    return 0


def _self_test(bundle: Bundle, engine: EngineName) -> str:
    """Run the golden windows as a device does before it serves."""
    precisions = list(dict.fromkeys(figures.precision for figures in bundle.manifest.metrics.parity))
    for precision in precisions:
        open_pipeline(bundle, prefer=(engine,), precision=precision).close()
    return f"self-test on {engine}: {' and '.join(precisions)} within tolerance"


def _warnings(bundle: Bundle) -> Iterator[str]:
    """What stands in the tables but is easily passed over."""
    manifest = bundle.manifest
    for class_name, threshold in manifest.thresholds.items():
        if threshold.extrapolated:
            yield f"the threshold of {class_name} is extrapolated: {threshold.note}"
    missing = [class_name for class_name in manifest.machine_classes if class_name not in manifest.thresholds]
    if missing:
        yield f"no threshold for {', '.join(missing)}: no healthy clip that was not trained on; devices refuse them"
    for figures in manifest.metrics.parity:
        if figures.embedding_cosine_min < MIN_EMBEDDING_COSINE:
            yield (
                f"{figures.precision} on {figures.engine} has an embedding cosine of "
                f"{figures.embedding_cosine_min:.4f} on a test clip, below {MIN_EMBEDDING_COSINE}, which it keeps on "
                "the healthy clips that gave its ranges, as they are and up to 30 dB louder"
            )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--about {path}: cannot be read ({error}); expected a Markdown file in UTF-8") from error


if __name__ == "__main__":
    sys.exit(main())

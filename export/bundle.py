"""A checkpoint and a folder of labelled clips in, a verified NAME-VERSION.asd and its parity report out."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from rich.console import Console

from edge_asd.bundle import (
    Bundle,
    EngineName,
    Metrics,
    ModelDescription,
    ScorerSpec,
    tensor_specs,
    write_bundle,
)
from edge_asd.commands.bundle import print_bundle
from edge_asd.errors import BundleError, EdgeAsdError, UsageError
from edge_asd.pipeline import open_pipeline
from edge_asd.score import MarginScorer
from edge_asd.threshold import Target
from export.card import CardFacts, model_card
from export.figures import ENGINES, Figures, bundle_figures
from export.golden import golden_clips, golden_tolerance, golden_values
from export.int8_report import write_report
from export.networks import Networks, export_networks
from export.scorer_options import WantedScorers, add_scorer_options, wanted_scorers
from export.trial import Budget
from export.windows import count_repeated, find_calibration_clips, read_windows
from train.checkpoint import Checkpoint, load_checkpoint, network_for_device
from train.network import FEATURE_MAP_SIZE, NetworkSpec

_OUT_NAME = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]*?)-(?P<version>[0-9][0-9A-Za-z.+]*)\.asd$")


def export_bundle(
    checkpoint: Checkpoint,
    folder: Path,
    out: Path,
    *,
    false_alarms_per_day: float,
    about: str,
    half: bool = True,
    wanted: WantedScorers | None = None,
    report: Path | None = None,
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
        wanted: by what classes are scored; None is by margin alone.
        report: folder for what INT8 costs by layer; None writes none.
        say: is told what happens.

    Raises:
        UsageError: the path, the folder or the target cannot be used.
        ClipError: a clip cannot be used, or there are too few for a memory that was asked for.
        EdgeAsdError: the network does not export or quantize.
    """
    name, version = _name_and_version(out)
    network, spec = network_for_device(checkpoint), checkpoint.feature_spec
    clips = find_calibration_clips(folder, checkpoint)
    read = partial(read_windows, folder, classes=checkpoint.classes, spec=spec)
    target = Target(false_alarms_per_day=false_alarms_per_day, window_s=spec.window_samples / spec.sample_rate_hz)
    scorer = MarginScorer(network.spec.scale, network.spec.margin, n_classes=network.spec.n_classes)
    wanted = wanted or WantedScorers()
    n_repeated = count_repeated(folder, clips.calibration, spec)
    if n_repeated:
        say(
            f"{n_repeated} of {len(clips.calibration)} clips that thresholds are fitted on are shorter than "
            f"{target.window_s:g} s and repeat to it; a device hears whole windows: watch its scores, or record longer"
        )
    networks = export_networks(network, spec, clips, read, half=half, say=say)
    if report is not None:
        write_report(report, networks.int8, title=f"{name} {version}")
    figures = bundle_figures(
        network,
        networks.models,
        clips,
        read,
        classes=checkpoint.classes,
        spec=spec,
        scorer=scorer,
        wanted=wanted,
        target=target,
        say=say,
    )
    description = _description((name, version), checkpoint, network.spec, networks, figures)
    remembered = figures.remembered
    facts = CardFacts(
        description=description,
        network=network.spec,
        n_parameters=sum(parameter.numel() for parameter in network.parameters()),
        clips=clips,
        n_repeated=n_repeated,
        training=checkpoint.training,
        about=about,
        int8=networks.int8,
    )
    return write_bundle(
        out,
        description,
        onnx_fp32=networks.models["fp32"],
        onnx_fp16=networks.models.get("fp16"),
        onnx_int8=networks.models["int8"],
        golden=golden_values(next(read(golden_clips(clips))), networks.models["fp32"], scorer, remembered),
        model_card=model_card(facts),
        memories=remembered.memories if remembered else None,
    )


def _description(
    name_and_version: tuple[str, str],
    checkpoint: Checkpoint,
    network: NetworkSpec,
    networks: Networks,
    figures: Figures,
) -> ModelDescription:
    inputs, outputs = tensor_specs(checkpoint.feature_spec, len(checkpoint.classes), feature_map_size=FEATURE_MAP_SIZE)
    return ModelDescription(
        name=name_and_version[0],
        version=name_and_version[1],
        created_utc=datetime.now(timezone.utc).replace(microsecond=0),
        feature_spec=checkpoint.feature_spec,
        inputs=inputs,
        outputs=outputs,
        classes=checkpoint.classes,
        scorer=ScorerSpec(scale=network.scale, margin=network.margin),
        thresholds=figures.thresholds,
        knn=figures.remembered.section if figures.remembered else None,
        golden_tolerance=golden_tolerance(figures.parity, figures.remembered),
        metrics=Metrics(float_layers=networks.int8.float_layers, parity=figures.parity, test=figures.test),
    )


def _name_and_version(out: Path) -> tuple[str, str]:
    match = _OUT_NAME.match(out.name)
    if match is None:
        raise UsageError(f"--out is {out}; expected NAME-VERSION.asd, as in fan-hall-2-1.0.0.asd; rename it so")
    if not out.parent.is_dir():
        raise UsageError(f"--out is {out}; expected an existing folder, {out.parent} is none; make it")
    return match["name"], match["version"]


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
    add_scorer_options(parser)
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FOLDER",
        help="write what each layer costs in INT8, and which are float, into it: int8.md, int8.png, int8.json",
    )
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        checkpoint = load_checkpoint(options.checkpoint)
        bundle = export_bundle(
            checkpoint,
            options.calibration,
            options.out,
            false_alarms_per_day=options.false_alarms_per_day,
            about=_text(options.about) if options.about else "",
            half=not options.no_half,
            wanted=wanted_scorers(options, checkpoint.classes),
            report=options.report,
            say=lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True),
        )
        for engine in ENGINES:
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


def _has_threshold(manifest: ModelDescription, class_name: str) -> bool:
    try:
        manifest.threshold(class_name)
    except BundleError:
        return False
    return True


def _warnings(bundle: Bundle) -> Iterator[str]:
    """What stands in the tables but is easily passed over."""
    manifest = bundle.manifest
    for class_name, threshold in manifest.thresholds.items():
        if threshold.extrapolated:
            yield f"the threshold of {class_name} is extrapolated: {threshold.note}"
    missing = [class_name for class_name in manifest.machine_classes if not _has_threshold(manifest, class_name)]
    if missing:
        yield f"no threshold for {', '.join(missing)}: no healthy clip that was not trained on; devices refuse them"
    least = Budget().min_embedding_cosine
    for figures in manifest.metrics.parity:
        if figures.embedding_cosine_min < least:
            yield (
                f"{figures.precision} on {figures.engine} has an embedding cosine of "
                f"{figures.embedding_cosine_min:.4f} on a clip, below {least:g}, which INT8 keeps on ONNX Runtime on "
                "the clips that it was fitted to"
            )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--about {path}: cannot be read ({error}); expected a Markdown file in UTF-8") from error


if __name__ == "__main__":
    sys.exit(main())

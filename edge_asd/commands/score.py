"""`edge-asd score`: recorded clips in, their anomaly scores out as a table, CSV or JSON."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.progress import track
from rich.table import Table

from edge_asd.bundle import open_bundle
from edge_asd.capture.clips import find_clips, read_clip
from edge_asd.errors import ClipError
from edge_asd.pipeline import Ear, open_pipeline
from edge_asd.types import Block, FeatureSpec, ScorerName
from edge_asd.window import Windower

_HOP_SAMPLES = 15_360


@dataclass(frozen=True, kw_only=True)
class ClipScore:
    """Scores of one clip; `score` is its highest window's."""

    clip: str
    machine: str
    score: float
    threshold: float
    anomalous: bool
    window_scores: tuple[float, ...]


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of `edge-asd`."""
    parser = subparsers.add_parser(
        "score",
        help="score recorded clips",
        description="Score clips as a class of the bundle. A clip longer than 10 s is scored in overlapping windows, "
        "and its highest score counts. A clip that cannot be used is reported, and the others are scored.",
    )
    parser.add_argument("bundle", type=Path, metavar="NAME-VERSION.asd", help="the model bundle")
    parser.add_argument("clips", type=Path, nargs="+", metavar="CLIP_OR_FOLDER", help="FLAC, WAV or Ogg, or folders")
    parser.add_argument("--machine", required=True, metavar="TYPE/ID", help="the class that the clips are heard as")
    parser.add_argument(
        "--scorer",
        choices=get_args(ScorerName),
        help="how, instead of the bundle's choice for this class",
    )
    parser.add_argument("--threshold", type=float, help="instead of the bundle's for this class and scorer")
    parser.add_argument("--channel", type=int, help="the channel to score of clips that hold several, from 0")
    parser.add_argument("--engine", default="openvino,onnxruntime", help="engines in order of preference (%(default)s)")
    parser.add_argument(
        "--precision", choices=("int8", "fp16", "fp32"), default="int8", help="of the network (%(default)s)"
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "--csv", type=Path, metavar="FILE", help="write clip,machine,score,threshold,anomalous; - is stdout"
    )
    output.add_argument("--json", action="store_true", help="print JSON on stdout, with the score of every window")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Score the clips; 65 when one of them could not be used."""
    bundle = open_bundle(arguments.bundle)
    threshold = arguments.threshold
    if threshold is None:
        threshold = bundle.manifest.threshold(arguments.machine, arguments.scorer).threshold
    clips = find_clips(arguments.clips)
    scores: list[ClipScore] = []
    refused: list[ClipError] = []
    console = Console(stderr=True)
    with open_pipeline(bundle, prefer=arguments.engine.split(","), precision=arguments.precision) as pipeline:
        for clip in track(clips, "scoring", console=console, transient=True, disable=not console.is_terminal):
            try:
                ear = pipeline.ear(arguments.machine, arguments.scorer)
                window_scores = _score_clip(ear, pipeline.spec, clip, arguments.channel)
            except ClipError as error:
                refused.append(error)
                continue
            score = max(window_scores)
            scores.append(
                ClipScore(
                    clip=str(clip),
                    machine=arguments.machine,
                    score=score,
                    threshold=threshold,
                    anomalous=score >= threshold,
                    window_scores=window_scores,
                )
            )
    _write(scores, arguments)
    for refusal in refused:
        console.print(f"edge-asd: {refusal}", highlight=False, markup=False, soft_wrap=True)
    return ClipError.exit_code if refused else 0


def _score_clip(ear: Ear, spec: FeatureSpec, clip: Path, channel: int | None) -> tuple[float, ...]:
    wave = read_clip(clip, channel=channel)
    if wave.size < spec.window_samples:
        raise ClipError(
            f"{clip} is {wave.size / spec.sample_rate_hz:.2f} s long; expected at least "
            f"{spec.window_samples / spec.sample_rate_hz:g} s, the window that the model looks at; record longer clips"
        )
    windower = Windower(spec, _HOP_SAMPLES)
    scores: list[float] = []
    for end in range(_HOP_SAMPLES, wave.size + _HOP_SAMPLES, _HOP_SAMPLES):  # a hop at a time bounds the memory
        end_s = min(end, wave.size) / spec.sample_rate_hz
        block = Block(samples=wave[end - _HOP_SAMPLES : end], end_monotonic_s=end_s, end_utc_s=end_s)
        for window in windower.push(block):
            scored = ear.score(window)
            if scored.fault is not None:
                raise ClipError(f"{clip}, window that ends at {window.end_monotonic_s:.2f} s: {scored.fault}")
            scores.append(scored.score)
    return tuple(scores)


def _write(scores: Sequence[ClipScore], arguments: argparse.Namespace) -> None:
    if arguments.json:
        json.dump([asdict(score) for score in scores], sys.stdout, indent=1)
        print()
    elif arguments.csv:
        to_stdout = arguments.csv == Path("-")
        with nullcontext(sys.stdout) if to_stdout else arguments.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("clip", "machine", "score", "threshold", "anomalous"))
            for score in scores:
                numbers = (f"{score.score:.6f}", f"{score.threshold:.6f}", int(score.anomalous))
                writer.writerow((score.clip, score.machine, *numbers))
    else:
        table = Table("clip", "score", "threshold", "verdict", box=None)
        for score in scores:
            verdict = "[red]anomalous" if score.anomalous else "[green]normal"
            table.add_row(score.clip, f"{score.score:.2f}", f"{score.threshold:.2f}", verdict)
        Console().print(table)

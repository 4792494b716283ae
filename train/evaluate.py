"""A run and its data folder in, anomaly scores of every recording outside the training and of joined streams out."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from edge_asd.errors import EdgeAsdError, UsageError
from edge_asd.features import log_mel_db
from edge_asd.score import MarginScorer
from edge_asd.types import FloatArray
from train.checkpoint import Checkpoint, load_checkpoint
from train.data import load_recordings, read_waves

HOP_SAMPLES = 15_360
SIDES = ("validation", "held_out", "anomaly")
_WINDOWS_PER_BATCH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamScores:
    """Scores z of the windows of one recording, or of all recordings of a class and side joined end to end."""

    name: str
    class_name: str
    side: str
    joined: bool
    scores: FloatArray  # (windows,)


def score_windows(checkpoint: Checkpoint, wave: FloatArray, class_name: str) -> FloatArray:
    """Score every window of a wave (n,) at the default hop as `class_name`: (windows,) z.

    A wave shorter than a window is repeated to its length.
    """
    n_samples = checkpoint.feature_spec.window_samples
    if len(wave) < n_samples:
        wave = np.resize(wave, n_samples)
    windows = np.lib.stride_tricks.sliding_window_view(wave, n_samples)[::HOP_SAMPLES]
    spec = checkpoint.spec
    scorer = MarginScorer(spec.scale, spec.margin, n_classes=spec.n_classes)
    cosines = []
    with torch.inference_mode():
        for start in range(0, len(windows), _WINDOWS_PER_BATCH):
            batch = windows[start : start + _WINDOWS_PER_BATCH].copy()
            log_mel = torch.from_numpy(log_mel_db(batch, checkpoint.feature_spec))
            cosines.append(checkpoint.network(torch.from_numpy(batch), log_mel)[1].numpy())
    return scorer.score(np.concatenate(cosines), checkpoint.classes.index(class_name))


def evaluate(checkpoint: Checkpoint, folder: Path) -> tuple[StreamScores, ...]:
    """Score the recordings of the split but those trained on, alone and joined end to end by class and side.

    Raises:
        UsageError: the folder is not the one that the network was trained on.
        ClipError: a clip cannot be used.
    """
    class_of_file = {recording.file: recording.class_name for recording in load_recordings(folder)}
    files_of_side = {side: getattr(checkpoint.split, side) for side in SIDES}
    unknown = [file for files in files_of_side.values() for file in files if file not in class_of_file]
    if unknown:
        raise UsageError(
            f"{folder}: {len(unknown)} recordings of the run's split are not in its metadata.csv: "
            f"{', '.join(unknown[:5])}; give the folder that the network was trained on"
        )
    waves = read_waves(folder, [file for files in files_of_side.values() for file in files])
    streams = []
    for side, files in files_of_side.items():
        for class_name in checkpoint.classes:
            members = [file for file in files if class_of_file[file] == class_name]
            parts = {file: (waves[file], False) for file in members}
            if len(members) > 1:
                parts[f"{class_name} {side} joined"] = (np.concatenate([waves[file] for file in members]), True)
            for name, (wave, joined) in parts.items():
                scores = score_windows(checkpoint, wave, class_name)
                streams.append(StreamScores(name=name, class_name=class_name, side=side, joined=joined, scores=scores))
    return tuple(streams)


def metrics_of(streams: Sequence[StreamScores]) -> dict[str, float]:
    """Summarise: highest z of healthy and lowest of damaged windows a class, AUC over recordings, counts.

    A recording's score is the mean of its windows. AUC where a class has both held-out and damaged recordings.
    """
    metrics: dict[str, float] = {}
    for class_name in sorted({stream.class_name for stream in streams}):
        by_side: Mapping[str, list[StreamScores]] = {
            side: [stream for stream in streams if stream.class_name == class_name and stream.side == side]
            for side in SIDES
        }
        for side, members in by_side.items():
            if not members:
                continue
            scores = np.concatenate([stream.scores for stream in members])
            extreme = scores.min() if side == "anomaly" else scores.max()
            name = "lowest" if side == "anomaly" else "highest"
            metrics[f"{class_name} {side} {name} score"] = float(extreme)
            metrics[f"{class_name} {side} recordings"] = float(sum(not stream.joined for stream in members))
        healthy = [stream.scores.mean() for stream in by_side["held_out"] if not stream.joined]
        damaged = [stream.scores.mean() for stream in by_side["anomaly"] if not stream.joined]
        if healthy and damaged:
            truth = [0] * len(healthy) + [1] * len(damaged)
            metrics[f"{class_name} AUC"] = float(roc_auc_score(truth, healthy + damaged))
    return metrics


def write_scores(path: Path, streams: Sequence[StreamScores]) -> None:
    """Write one line a window as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["stream", "class", "side", "joined", "window", "score"])
        for stream in streams:
            for window, score in enumerate(stream.scores):
                writer.writerow([stream.name, stream.class_name, stream.side, stream.joined, window, f"{score:.6g}"])


def print_scores(streams: Sequence[StreamScores], console: Console) -> None:
    """Print one line a stream."""
    table = Table("class", "side", "stream", "windows", "lowest z", "mean z", "highest z")
    for stream in streams:
        low, mean, high = stream.scores.min(), stream.scores.mean(), stream.scores.max()
        figures = (str(len(stream.scores)), f"{low:.2f}", f"{mean:.2f}", f"{high:.2f}")
        table.add_row(stream.class_name, stream.side, stream.name, *figures)
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train.evaluate",
        description="Score every recording that a run did not train on, alone and joined end to end by class.",
        epilog="Scores are z: higher is more anomalous. Example: python -m train.evaluate runs/bldc data/bldc_motor",
    )
    parser.add_argument("run", type=Path, help="run folder or checkpoint file of python -m train.fit")
    parser.add_argument("data", type=Path, help="the data folder that it was trained on")
    parser.add_argument("--csv", type=Path, help="write the score of every window to this file")
    options = parser.parse_args(arguments)
    try:
        streams = evaluate(load_checkpoint(options.run), options.data)
        if options.csv is not None:
            write_scores(options.csv, streams)
    except EdgeAsdError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    console = Console()
    print_scores(streams, console)
    for name, value in metrics_of(streams).items():
        console.print(f"{name}: {value:.4g}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())

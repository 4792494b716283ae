"""A checkpoint and its data folder in, scores of every recording outside the training and of joined streams out."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from edge_asd.errors import UsageError
from edge_asd.features import log_mel_db
from edge_asd.score import MarginScorer
from edge_asd.types import FloatArray
from train.checkpoint import Checkpoint
from train.data import load_recordings, open_waves

HOP_SAMPLES = 15_360
SIDES = ("validation", "held_out", "anomaly")
_WINDOWS_PER_BATCH = 8
_MOST_JOINED = 20
"""Of a class and side with more recordings, none are joined: its scores alone say enough, and joining costs tenfold."""


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


def score_streams(checkpoint: Checkpoint, folder: Path) -> tuple[StreamScores, ...]:
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
            f"{folder}: {len(unknown)} recordings of the run's split are not in it: "
            f"{', '.join(unknown[:5])}; give the folder that the network was trained on"
        )
    scored = [file for files in files_of_side.values() for file in files]
    waves, place_of = open_waves(folder, scored), {file: place for place, file in enumerate(scored)}
    streams = []
    for side, files in files_of_side.items():
        for class_name in checkpoint.classes:
            members = [file for file in files if class_of_file[file] == class_name]
            parts = [(file, (file,)) for file in members]
            if 1 < len(members) <= _MOST_JOINED:
                parts.append((f"{class_name} {side} joined", tuple(members)))
            for name, files_of_part in parts:
                wave = np.concatenate([waves[place_of[file]] for file in files_of_part])
                scores = score_windows(checkpoint, wave, class_name)
                joined = len(files_of_part) > 1
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

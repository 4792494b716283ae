"""A checkpoint and its data folder in, scores of every recording outside the training and of joined streams out."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from edge_asd.errors import UsageError
from edge_asd.types import FloatArray
from train.checkpoint import Checkpoint
from train.data import Waves, load_recordings, open_waves
from train.evaluation.clip_scorer import ClipScorer
from train.settings import Device

SIDES = ("validation", "held_out", "anomaly")
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


def score_streams(checkpoint: Checkpoint, folder: Path, *, device: Device = "cpu") -> tuple[StreamScores, ...]:
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
    scorer = ClipScorer(checkpoint, device=device)
    streams = []
    for side, files in files_of_side.items():
        for class_name in checkpoint.classes:
            members = [file for file in files if class_of_file[file] == class_name]
            waves, names = open_waves(folder, members), list(members)
            if 1 < len(members) <= _MOST_JOINED:
                waves = Waves.from_arrays([*waves, np.concatenate(list(waves))])
                names.append(f"{class_name} {side} joined")
            scored = scorer.score_windows(waves, [class_name] * len(names))
            streams += [
                StreamScores(name=name, class_name=class_name, side=side, joined=place >= len(members), scores=scores)
                for place, (name, scores) in enumerate(zip(names, scored, strict=True))
            ]
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

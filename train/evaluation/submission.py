"""Scores of a run in, the CSV files that DCASE Task 2 takes out: one of scores and one of decisions a machine ID."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path, PurePosixPath

from train.evaluation.scoring import RunScores


def write_submission(folder: Path, run: RunScores) -> tuple[Path, ...]:
    """Write anomaly_score_TYPE_ID.csv and decision_result_TYPE_ID.csv, lines of a clip's name and its score or 0 or 1.

    Names of sections end in `_test`, as since 2021. Decisions are written for IDs that have a threshold.

    Source: DCASE Challenge Task 2, submission format and baselines (2020 to 2025).
    """
    scores: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for clip in run.test:
        scores[clip.class_name].append((clip.file, clip.score))
    for recording, score in run.unlabelled:
        scores[recording.class_name].append((recording.file, score))
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for class_name, lines in sorted(scores.items()):
        machine_type, machine_id = class_name.rsplit("/", 1)
        end = f"{machine_type.replace('/', '_')}_{machine_id}{'_test' if machine_id.startswith('section_') else ''}.csv"
        named = sorted((PurePosixPath(file).name, score) for file, score in lines)
        written.append(_write(folder / f"anomaly_score_{end}", [(name, repr(score)) for name, score in named]))
        threshold = run.decisions.get(class_name)
        if threshold is not None:
            decided = [(name, str(int(score > threshold))) for name, score in named]
            written.append(_write(folder / f"decision_result_{end}", decided))
    return tuple(written)


def _write(path: Path, lines: list[tuple[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
    return path

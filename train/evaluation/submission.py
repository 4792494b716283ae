"""Scores of a run in, the CSV files that DCASE Task 2 takes out: one of scores and one of decisions a machine ID."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from train.evaluation.scoring import RunScores


def write_submission(folder: Path, run: RunScores) -> tuple[Path, ...]:
    """Write anomaly_score_TYPE_ID.csv and decision_result_TYPE_ID.csv, lines of a clip's name and its score or 0 or 1.

    Names of sections end in `_test`, as since 2021; in `_source_test` and `_target_test` where the clips lie in folders
    of these names, as in 2021. Where two clips of a file have the same name, its lines name them by their paths.
    Decisions are written for IDs that have a threshold.

    Source: DCASE Challenge Task 2, submission format and baselines (2020 to 2025).
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for (class_name, part), scores in sorted(_lines(run).items()):
        machine_type, machine_id = class_name.rsplit("/", 1)
        end = "_".join([machine_type.replace("/", "_"), machine_id, *part]) + ".csv"
        name_of = str if _share_names(scores) else _base_name
        named = sorted((name_of(file), score) for file, score in scores.items())
        written.append(_write(folder / f"anomaly_score_{end}", [(name, repr(score)) for name, score in named]))
        threshold = run.decisions.get(class_name)
        if threshold is not None:
            decided = [(name, str(int(score > threshold))) for name, score in named]
            written.append(_write(folder / f"decision_result_{end}", decided))
    return tuple(written)


def submission_notes(run: RunScores) -> tuple[str, ...]:
    """What whoever hands the files in must know."""
    shared = sorted({class_name for (class_name, _), scores in _lines(run).items() if _share_names(scores)})
    if not shared:
        return ()
    return (f"clips of the same name, so the submission files have their paths: {', '.join(shared)}",)


def _lines(run: RunScores) -> dict[tuple[str, tuple[str, ...]], dict[str, float]]:
    """Score by path of a clip, for each file: the class, and the end of the file's name."""
    clips = [(clip.class_name, clip.file, clip.score) for clip in run.test]
    clips += [(recording.class_name, recording.file, score) for recording, score in run.unlabelled]
    files: dict[tuple[str, tuple[str, ...]], dict[str, float]] = defaultdict(dict)
    for class_name, file, score in clips:
        files[class_name, _part(class_name, file)][file] = score
    return files


def _part(class_name: str, file: str) -> tuple[str, ...]:
    if not class_name.rsplit("/", 1)[1].startswith("section_"):
        return ()
    folder = PurePosixPath(file).parent.name
    return (folder if folder in ("source_test", "target_test") else "test",)


def _base_name(file: str) -> str:
    return PurePosixPath(file).name


def _share_names(files: Iterable[str]) -> bool:
    names = [_base_name(file) for file in files]
    return len(set(names)) < len(names)


def _write(path: Path, lines: list[tuple[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
    return path

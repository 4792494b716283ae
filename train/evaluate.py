"""One run or several and a data folder in; figures, submission files and a report out."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import functools
import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import get_args

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from edge_asd.errors import EdgeAsdError, UsageError
from train.checkpoint import CHECKPOINT_NAME, load_checkpoint
from train.data import list_folder
from train.evaluation.clip_scorer import WhichWindows
from train.evaluation.metrics import TITLES, FigureName, Spread, evaluate_clips, over_runs
from train.evaluation.report import Evaluated, write_report
from train.evaluation.scoring import EvaluationSet, RunScores, choose_test_set, notes_of, score_run
from train.evaluation.submission import submission_notes, write_submission
from train.settings import Device

METRICS_NAME = "metrics.json"
REPORT_NAME = "report.html"
_SUBMISSION = "submission"
_REPLICATES = 1000
_SHORT: dict[FigureName, str] = {
    "auc_id_mean": "AUC mean",
    "pauc_id_mean": "pAUC mean",
    "auc_pooled": "AUC pooled",
    "pauc_pooled": "pAUC pooled",
    "harmonic_mean": "harm. mean",
}
"""Titles that fit a terminal."""


def evaluate(
    runs: Sequence[Path],
    folder: Path,
    console: Console,
    *,
    device: Device = "cpu",
    windows: WhichWindows = "all",
    replicates: int = _REPLICATES,
) -> tuple[Evaluated, ...]:
    """Score the clips that each run has not learnt from, and take the figures.

    Args:
        runs: run folders or checkpoint files of `train.fit`.
        folder: data folder.
        console: where progress is shown.
        device: that scores.
        windows: as `score_run`.
        replicates: of the bootstrap.

    Raises:
        UsageError: the runs test clips of different classes.
        EdgeAsdError: a run cannot be read, or the folder or a clip cannot be used.
    """
    checkpoints = [load_checkpoint(run) for run in runs]
    listing = list_folder(folder)
    test_sets = [choose_test_set(checkpoint, listing, folder) for checkpoint in checkpoints]
    _check_same_classes(runs, test_sets)
    evaluated = []
    with Progress(console=console) as bar:
        for name, checkpoint, test_set in zip(_names(runs), checkpoints, test_sets, strict=True):
            total = len(test_set.test) + len(test_set.unlabelled) + len(test_set.validation)
            task = bar.add_task(f"scoring with {name}", total=total)
            scores = score_run(
                name,
                checkpoint,
                folder,
                test_set,
                device=device,
                windows=windows,
                progress=functools.partial(bar.advance, task),
            )
            scores = dataclasses.replace(scores, notes=(*scores.notes, *submission_notes(scores)))
            evaluated.append(Evaluated(scores=scores, rows=evaluate_clips(scores.test, replicates=replicates)))
    return tuple(evaluated)


def _check_same_classes(runs: Sequence[Path], test_sets: Sequence[EvaluationSet]) -> None:
    """An average over runs is of the same machine IDs in each."""
    tested = [{(recording.class_name, recording.label) for recording in test_set.test} for test_set in test_sets]
    for run, found in zip(runs, tested, strict=True):
        different = sorted({class_name for class_name, _ in found ^ tested[0]})
        if different:
            raise UsageError(
                f"{run}: does not test the same healthy and damaged classes as {runs[0]}: they differ in "
                f"{', '.join(different[:5])}; expected runs of one set of classes; evaluate them one by one"
            )


def _names(runs: Sequence[Path]) -> tuple[str, ...]:
    """Folder names, with a number behind those that are the same."""
    names: list[str] = []
    for run in runs:
        path = run.resolve()
        name = path.parent.name if path.name == CHECKPOINT_NAME else path.stem if path.is_file() else path.name
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
    return tuple(names)


def check_out(out: Path) -> None:
    """Make the folder of a report, or find an earlier report there.

    Raises:
        UsageError: the folder holds something else, or cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        found = {path.name for path in out.iterdir()}
    except OSError as error:
        raise _unwritable(out, error) from error
    if found and (METRICS_NAME not in found or CHECKPOINT_NAME in found):
        raise UsageError(f"{out}: holds something else; expected a new or empty folder, or an earlier report's")
    if not os.access(out, os.W_OK | os.X_OK):
        raise UsageError(f"{out}: cannot be written; expected a writable folder; give another --out")


def _unwritable(out: Path, error: OSError) -> UsageError:
    return UsageError(f"{out}: cannot be written: {error.strerror}; give another --out")


def write_out(out: Path, evaluated: Sequence[Evaluated], folder: Path, facts: Sequence[tuple[str, str]]) -> None:
    """Write report, figures, scores and submission files.

    Raises:
        UsageError: the folder holds something else, or cannot be written.
    """
    check_out(out)
    content = {
        "facts": dict(facts),
        "notes": notes_of(run.scores for run in evaluated),
        "runs": {run.scores.name: [dataclasses.asdict(row) for row in run.rows] for run in evaluated},
        "over_runs": {
            row: {name: dataclasses.asdict(spread) for name, spread in figures.items()}
            for row, figures in over_runs([run.rows for run in evaluated]).items()
        }
        if len(evaluated) > 1
        else {},
    }
    figures = json.dumps(content, indent=2, allow_nan=False) + "\n"  # ahead of what takes an earlier report away
    try:
        shutil.rmtree(out / _SUBMISSION, ignore_errors=True)
        (out / METRICS_NAME).write_text(figures, encoding="utf-8")
        for run in evaluated:
            _write_scores(out / f"scores-{run.scores.name}.csv", run.scores)
            write_submission(out / _SUBMISSION / run.scores.name, run.scores)
        write_report(out / REPORT_NAME, evaluated, folder, facts)
    except OSError as error:
        raise _unwritable(out, error) from error


def _write_scores(path: Path, scores: RunScores) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "class", "label", "domain", "score"])
        for clip in scores.test:
            label = "anomaly" if clip.is_anomaly else "normal"
            writer.writerow([clip.file, clip.class_name, label, clip.domain, repr(clip.score)])
        for recording, score in scores.unlabelled:
            writer.writerow([recording.file, recording.class_name, "none", recording.domain, repr(score)])


def print_figures(evaluated: Sequence[Evaluated], console: Console) -> None:
    """Print two tables, by machine ID and by type, in %; of several runs their mean and standard deviation."""
    spreads = over_runs([run.rows for run in evaluated])
    rows = {row.name: row for run in evaluated for row in run.rows}
    for kinds in (("id",), ("type", "average")):
        members = [row for row in rows.values() if row.kind in kinds]
        names: list[FigureName] = [name for name in TITLES if any(name in row.figures for row in members)]
        if not members:
            continue
        counted = ("healthy", "damaged") if kinds == ("id",) else ()
        table = Table(Column("%", no_wrap=True), *counted, box=SIMPLE_HEAD, pad_edge=False)
        for name in names:
            table.add_column(_SHORT.get(name, TITLES[name]), justify="right", min_width=6)
        for row in members:
            cells = [_cell(spreads[row.name].get(name)) for name in names]
            counts = (str(row.n_normal), str(row.n_anomaly)) if counted else ()
            table.add_row("average" if row.kind == "average" else row.name, *counts, *cells)
        console.print(table)
    console.print("mean: over a type's IDs; pooled: one curve over their scores; mAUC: lowest ID")


def _cell(spread: Spread | None) -> str:
    if spread is None:
        return ""
    return f"{100 * spread.mean:.2f}" + (f" ±{100 * spread.std:.2f}" if spread.std is not None else "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train.evaluate",
        description="Score the clips that runs have not learnt from: AUC, pAUC and mAUC by machine ID, by type and on "
        "average, with confidence intervals; several runs (seeds) as mean and standard deviation.",
        epilog="Example: python -m train.evaluate runs/seed-0 runs/seed-1 data/dcase2020 --out reports/seeds",
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder or checkpoint of train.fit")
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="data folder; the runs' own, or another of their classes"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write report.html, metrics.json, scores and submission files there"
    )
    parser.add_argument("--device", choices=get_args(Device), default="cpu", help="where to score")
    parser.add_argument(
        "--windows",
        choices=get_args(WhichWindows),
        default="all",
        help="a clip's score is the mean over all its windows, or its first alone, as the published code has it",
    )
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        if options.out is not None:
            check_out(options.out)  # scoring takes long
        evaluated = evaluate(options.runs, options.data, console, device=options.device, windows=options.windows)
        print_figures(evaluated, console)
        for note in notes_of(run.scores for run in evaluated):
            console.print(f"note: {note}", style="yellow", highlight=False, markup=False, soft_wrap=True)
        if options.out is not None:
            command = ["python", "-m", "train.evaluate", *(arguments if arguments is not None else sys.argv[1:])]
            write_out(options.out, evaluated, options.data, _facts(options, shlex.join(command)))
            print(options.out / REPORT_NAME)
    except EdgeAsdError as error:
        console.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return error.exit_code
    return 0


def _facts(options: argparse.Namespace, command: str) -> list[tuple[str, str]]:
    windows = (
        "mean z of all windows of a clip, 0.96 s apart" if options.windows == "all" else "z of a clip's first 10 s"
    )
    return [
        ("command", command),
        ("data", str(options.data)),
        ("runs", ", ".join(str(run) for run in options.runs)),
        ("score", f"{windows}; z = logsumexp of the other classes' margin logits minus the own; baselines: error"),
        ("test clips", "labelled, of classes that the run knows, not learnt from, not stated for training"),
        ("pAUC", "up to a false-alarm rate of 0.1, standardised so that chance is 50"),
        ("intervals", f"95 %, percentiles of {_REPLICATES} bootstrap draws of recordings within ID, label and domain"),
        ("made", datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")),
    ]


if __name__ == "__main__":
    sys.exit(main())

"""Scores and figures of one run or several in, one self-contained HTML page out."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np

from edge_asd.types import FeatureSpec
from train.data import open_waves
from train.data.generated import is_generated
from train.evaluation.metrics import AVERAGE, TITLES, FigureName, Row, ScoredClip, Spread, over_runs
from train.evaluation.pictures import WorstClip, type_picture, worst_picture
from train.evaluation.published import PUBLISHED, TYPES, why_not_comparable
from train.evaluation.scoring import RunScores, notes_of

_WORST_OF_EACH_KIND = 3
_LOW = 0.7
"""Figures below it stand out in the tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """A run's scores and the figures of them."""

    scores: RunScores
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class _Cell:
    text: str
    small: str = ""
    low: bool = False


@dataclass(frozen=True, slots=True)
class _Line:
    cells: list[_Cell]
    mark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    title: str
    columns: list[str]
    rows: list[_Line]
    about: str = ""
    mark: str = ""


def write_report(path: Path, runs: Sequence[Evaluated], folder: Path, facts: Sequence[tuple[str, str]]) -> None:
    """Write the page.

    Args:
        path: of the page.
        runs: at least one; pictures are of the first.
        folder: data folder that the worst clips are read from.
        facts: how the figures were made, name and text.
    """
    first = runs[0].scores
    types = sorted({clip.machine_type for clip in first.test})
    worst = _worst_clips(first, folder)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("report.html").render(
        title=f"Evaluation of {', '.join(run.scores.name for run in runs)}",
        summary=_summary(runs),
        notes=notes_of(run.scores for run in runs),
        tables=_tables(runs, generated=is_generated(folder)),
        several=len(runs) > 1,
        pictured=first.name,
        pictures=[
            {
                "title": name,
                "alt": f"score histograms and ROC curves of {name}",
                "png": _base64(
                    type_picture([clip for clip in first.test if clip.machine_type == name], first.decisions)
                ),
            }
            for name in types
        ],
        worst=_base64(worst_picture(worst)) if worst else "",
        facts=facts,
    )
    path.write_text(page, encoding="utf-8")


def _base64(png: bytes) -> str:
    return base64.b64encode(png).decode()


def _summary(runs: Sequence[Evaluated]) -> str:
    clips = runs[0].scores.test
    damaged = sum(clip.is_anomaly for clip in clips)
    text = f"{len(clips)} test clips ({len(clips) - damaged} healthy, {damaged} damaged)"
    spread = over_runs([run.rows for run in runs]).get(AVERAGE)
    if spread is None:
        return f"{text}. No machine ID has both healthy and damaged clips, so there is no figure to give."
    found = ", ".join(
        f"{TITLES[name]} {_percent_of(spread[name])}"
        for name in ("auc_id_mean", "pauc_id_mean", "mauc")
        if name in spread
    )
    over = f" over {len(runs)} runs (mean ± standard deviation)" if len(runs) > 1 else ""
    return f"{text}. On average over machine types{over}: {found} (in %)."


def _percent_of(spread: Spread) -> str:
    return f"{100 * spread.mean:.2f}" + (f" ± {100 * spread.std:.2f}" if spread.std is not None else "")


def _tables(runs: Sequence[Evaluated], *, generated: bool) -> list[_Table]:
    tables = [
        _figure_table(runs, "By machine type", ("type", "average")),
        _figure_table(runs, "By machine ID", ("id",)),
    ]
    tables = [table for table in tables if table.rows]
    if {row.name.rsplit("/", 1)[0] for row in runs[0].rows if row.kind == "id"} & set(TYPES):
        tables.append(_published_table(runs, generated=generated))
    return tables


def _figure_table(runs: Sequence[Evaluated], title: str, kinds: tuple[str, ...]) -> _Table:
    rows = {row.name: row for run in runs for row in run.rows if row.kind in kinds}
    names: list[FigureName] = [name for name in TITLES if any(name in row.figures for row in rows.values())]
    spreads = over_runs([run.rows for run in runs])
    several = len(runs) > 1
    lines = []
    for row in rows.values():
        cells = [_Cell(row.name), _Cell(str(row.n_normal)), _Cell(str(row.n_anomaly))]
        for name in names:
            figure = row.figures.get(name)
            if figure is None:
                cells.append(_Cell(""))
                continue
            spread = spreads[row.name][name]
            interval = f"{100 * figure.low:.1f} to {100 * figure.high:.1f}"
            small = "" if several else interval
            cells.append(_Cell(_percent_of(spread), small, spread.mean < _LOW))
        lines.append(_Line(cells, "average" if row.kind == "average" else ""))
    about = (
        f"In %. Mean ± standard deviation over {len(runs)} runs; 95 % intervals of each run stand in metrics.json."
        if several
        else "In %. Below each figure its 95 % bootstrap interval over recordings."
    )
    if "type" in kinds:
        about += (
            " Mean over IDs: the area of each machine ID, then their mean (DCASE). IDs pooled: one curve over the "
            "scores of all IDs of a type (the published OS-SCL code). mAUC: the lowest AUC of a type's IDs. Harmonic "
            "mean: over AUC (of each domain, where there are domains) and pAUC of every ID, as DCASE 2022 and later."
        )
    return _Table(
        title=title, columns=["", "healthy", "damaged", *(TITLES[name] for name in names)], rows=lines, about=about
    )


def _published_table(runs: Sequence[Evaluated], *, generated: bool) -> _Table:
    spreads = over_runs([run.rows for run in runs])
    lines = []
    hows: tuple[tuple[str, FigureName, FigureName], ...] = (
        ("mean over IDs", "auc_id_mean", "pauc_id_mean"),
        ("IDs pooled", "auc_pooled", "pauc_pooled"),
    )
    for how, auc, pauc in hows:
        own = spreads[AVERAGE]
        by_type = [f"{100 * spreads[name][auc].mean:.1f}" if name in spreads else "" for name in TYPES]
        figures = [_percent_of(own[auc]), _percent_of(own[pauc]), _percent_of(own["mauc"])]
        lines.append(
            _Line(
                [
                    _Cell(text)
                    for text in ("these runs" if len(runs) > 1 else runs[0].scores.name, how, *figures, *by_type)
                ],
                "own",
            )
        )
    for row in sorted(PUBLISHED, key=lambda row: -row.auc):
        mauc = "" if row.mauc is None else f"{row.mauc:.2f}"
        by_type = [f"{auc:.1f}" for auc, _ in row.by_type] or [""] * len(TYPES)
        cells = [
            _Cell(row.method, row.source),
            *map(_Cell, (row.how, f"{row.auc:.2f}", f"{row.pauc:.2f}", mauc, *by_type)),
        ]
        lines.append(_Line(cells))
    about = "DCASE 2020 Task 2, development test, in %; AUC by type on the right. Averages as their sources print them."
    counts = [{row.name: (row.n_normal, row.n_anomaly) for row in run.rows if row.kind == "id"} for run in runs]
    reasons = [why for each in counts if (why := why_not_comparable(each, generated=generated))]
    about += (
        f" NOT COMPARABLE: {reasons[0]}; the rows stand here for orientation alone."
        if reasons
        else " The numbers of clips are those of that test, but for ToyConveyor, where they are not known here."
    )
    columns = ["method", "IDs", "AUC", "pAUC", "mAUC", *TYPES]
    return _Table(title="Beside published figures", columns=columns, rows=lines, about=about, mark="published")


def _worst_clips(run: RunScores, folder: Path) -> list[WorstClip]:
    """Damaged clips below most healthy ones of their ID, and healthy ones above most damaged ones."""
    by_class: dict[str, list[ScoredClip]] = {}
    for clip in run.test:
        by_class.setdefault(clip.class_name, []).append(clip)
    ranked: dict[bool, list[tuple[float, ScoredClip]]] = {True: [], False: []}
    for members in by_class.values():
        for clip in members:
            others = np.array([other.score for other in members if other.is_anomaly != clip.is_anomaly])
            if len(others):
                wrong = np.mean(others >= clip.score) if clip.is_anomaly else np.mean(others <= clip.score)
                ranked[clip.is_anomaly].append((float(wrong), clip))
    chosen = [
        (wrong, clip)
        for kind in (True, False)
        for wrong, clip in sorted(ranked[kind], key=lambda one: (-one[0], one[1].file))[:_WORST_OF_EACH_KIND]
        if wrong > 0.0
    ]
    waves = open_waves(folder, [clip.file for _, clip in chosen])
    n_samples = FeatureSpec().window_samples
    return [
        WorstClip(
            title=f"{'damaged' if clip.is_anomaly else 'healthy'} {clip.class_name}, z {clip.score:.2f}: {clip.file}",
            subtitle=f"{100 * wrong:.0f} % of the {'healthy' if clip.is_anomaly else 'damaged'} clips of its ID score "
            f"{'higher' if clip.is_anomaly else 'lower'}",
            wave=wave[:n_samples],
        )
        for (wrong, clip), wave in zip(chosen, waves, strict=True)
    ]

"""edge-asd bundle: a bundle file in, what it holds out; signing and installing have modules of their own."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from edge_asd.bundle import Bundle, KnnSection, Manifest, Spread, Threshold, open_bundle
from edge_asd.commands import bundle_install, bundle_keys
from edge_asd.types import ScorerName


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its actions."""
    parser = subparsers.add_parser(
        "bundle",
        help="show, sign, verify or install model bundles",
        description="Show what a model bundle (NAME-VERSION.asd) holds, sign it, verify every byte of it, and install "
        "it on a device. Exits 78 when the bundle is damaged, foreign, not trusted or of a newer schema.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, dest="action")
    show = actions.add_parser(
        "show",
        help="show name, version, classes, thresholds and figures, as a table or as JSON",
        description="Show name, version, classes, thresholds and figures, whoever signed the bundle.",
    )
    show.add_argument("file", type=Path, metavar="FILE", help="the bundle, NAME-VERSION.asd")
    wanted = show.add_mutually_exclusive_group()
    wanted.add_argument("--json", action="store_true", help="print the manifest as JSON")
    wanted.add_argument("--card", action="store_true", help="print the model card")
    show.set_defaults(run=run)
    bundle_keys.add_actions(actions)
    bundle_install.add_actions(actions)


def run(arguments: argparse.Namespace) -> int:
    """Show one bundle.

    Raises:
        BundleError: it does not verify.
    """
    bundle = open_bundle(arguments.file)
    manifest = bundle.manifest
    if arguments.json:
        print(manifest.model_dump_json(indent=2))
    elif arguments.card:
        print(bundle.model_card)
    else:
        print_bundle(bundle, Console())
    return 0


def print_bundle(bundle: Bundle, console: Console) -> None:
    """Print what a bundle holds as tables: thresholds, parity, test figures."""
    manifest = bundle.manifest
    console.print(f"[bold]{manifest.name} {manifest.version}[/bold], made {manifest.created_utc:%Y-%m-%d %H:%M} UTC")
    console.print(f"sha256 {bundle.sha256}", highlight=False, soft_wrap=True)
    console.print("not signed" if bundle.signer is None else f"signed by {bundle.signer}", highlight=False)
    console.print(f"{bundle.path.stat().st_size / 1e6:.2f} MB", highlight=False)
    console.print(_threshold_table(manifest))
    if manifest.knn is not None:
        console.print(_memory_table(manifest.knn))
        made_by = f"{manifest.knn.layer} of the {manifest.knn.precision} network"
        console.print(f"{made_by}; leave-one-out mean ± deviation (recordings)", highlight=False)
    if manifest.metrics.parity:
        console.print(_parity_table(manifest))
        console.print(f"INT8 keeps in float: {', '.join(manifest.metrics.float_layers) or 'nothing'}", highlight=False)
    if manifest.metrics.test:
        console.print(_test_table(manifest))


def _threshold_table(manifest: Manifest) -> Table:
    table = Table("class", "scorer", title="Classes and thresholds", box=box.SIMPLE, title_justify="left")
    for heading in ("threshold", "target/day", "method", "healthy clips"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for class_name in manifest.machine_classes:
        memory = manifest.knn.memories.get(class_name) if manifest.knn else None
        scorers: list[ScorerName] = ["margin", *(memory.thresholds if memory else ())]
        for scorer in scorers:
            threshold = (
                memory.thresholds[scorer] if memory and scorer != "margin" else manifest.thresholds.get(class_name)
            )
            chosen = f"{scorer} (chosen)" if len(scorers) > 1 and scorer == manifest.scorer_of(class_name) else scorer
            cells = _threshold_cells(threshold) if threshold else ("none fitted", "", "", "0")
            table.add_row(class_name, chosen, *cells)
    return table


def _memory_table(knn: KnnSection) -> Table:
    table = Table("class", title="Memories of healthy sound", box=box.SIMPLE, title_justify="left")
    for heading in ("vectors", "neighbours", "source distance", "target distance"):
        table.add_column(heading, justify="right")
    for class_name, memory in knn.memories.items():
        fit = memory.fit
        table.add_row(class_name, str(fit.n_vectors), str(fit.k), _spread(fit.source), _spread(fit.target))
    return table


def _spread(spread: Spread | None) -> str:
    return "" if spread is None else f"{spread.mean:.4f} ± {spread.std:.4f} ({spread.n})"


def _threshold_cells(threshold: Threshold) -> tuple[str, str, str, str]:
    pooled = f" of {threshold.n_clips_pooled} pooled" if threshold.n_clips_pooled > threshold.n_clips else ""
    method = f"{threshold.method}, extrapolated" if threshold.extrapolated else threshold.method
    return (
        f"{threshold.threshold:.3f}",
        f"{threshold.target_false_alarms_per_day:g}",
        method,
        f"{threshold.n_clips}{pooled}",
    )


def _parity_table(manifest: Manifest) -> Table:
    table = Table("model", "engine", title="Parity with the trained network", box=box.SIMPLE, title_justify="left")
    for heading in ("windows", "embedding cosine min", "mean", "score difference max", "mean"):
        table.add_column(heading, justify="right")
    for figures in manifest.metrics.parity:
        table.add_row(
            figures.precision,
            figures.engine,
            str(figures.n_windows),
            f"{figures.embedding_cosine_min:.5f}",
            f"{figures.embedding_cosine_mean:.5f}",
            f"{figures.score_difference_max:.4f}",
            f"{figures.score_difference_mean:.4f}",
        )
    return table


def _test_table(manifest: Manifest) -> Table:
    table = Table("class", "model", "scorer", title="Held-out test clips", box=box.SIMPLE, title_justify="left")
    for heading in ("healthy", "above threshold", "damaged", "above threshold", "AUC"):
        table.add_column(heading, justify="right")
    for figures in manifest.metrics.test:
        table.add_row(
            figures.class_name,
            figures.precision,
            figures.scorer,
            str(figures.n_normal),
            _count(figures.normal_above_threshold),
            str(figures.n_anomaly),
            _count(figures.anomaly_above_threshold),
            "" if figures.auc is None else f"{figures.auc:.3f}",
        )
    return table


def _count(count: int | None) -> str:
    return "" if count is None else str(count)

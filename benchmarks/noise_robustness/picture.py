"""Results in, a picture of a figure over the SNR out: a panel for each noise, a line for each method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from benchmarks.noise_robustness.results import ResultRow
from benchmarks.noise_robustness.trial import CASES
from edge_asd.errors import EdgeAsdError

_PANEL_INCHES = (4.6, 4.2)
_MOST_LINES_OF_A_COLOUR = 10


def draw(rows: Sequence[ResultRow], path: Path, *, scorer: str, figure: str) -> None:
    """Draw mean and standard deviation over seeds of every method that takes part in the scorer.

    Args:
        rows: of one study.
        path: SVG, PNG or PDF, by its ending.
        scorer: one of scorers.SCORERS.
        figure: one of figures.FIGURES.

    Raises:
        EdgeAsdError: no method takes part in the scorer, or the file cannot be written.
    """
    shown = [row for row in rows if scorer in row.figures]
    if not shown:
        there = ", ".join(sorted({name for row in rows for name in row.figures})) or "none"
        raise EdgeAsdError(f"{path}: no row has the scorer {scorer!r}; expected one of {there}")
    mpl.rcParams["svg.hashsalt"] = "noise-robustness"  # the same rows give the same bytes
    width, height = _PANEL_INCHES
    sheet = Figure(figsize=(width * len(CASES), height), layout="constrained")
    panels = sheet.subplots(1, len(CASES), sharey=True)
    for panel, case in zip(panels, CASES, strict=True):
        for number, method in enumerate(dict.fromkeys(row.method for row in shown)):
            members = [row.figures[scorer][case] for row in shown if row.method == method]
            snrs_db = sorted(members[0], key=float)
            values = 100.0 * np.array([[member[snr_db][figure] for snr_db in snrs_db] for member in members])
            panel.errorbar(
                [float(snr_db) for snr_db in snrs_db],
                values.mean(axis=0),
                yerr=values.std(axis=0, ddof=1) if len(values) > 1 else None,
                label=f"{method} ({len(values)} seed{'s' if len(values) > 1 else ''})",
                linestyle="-" if number < _MOST_LINES_OF_A_COLOUR else "--",
                marker="o",
                capsize=2,
            )
        panel.set_title(f"{case} noise")
        panel.set_xlabel("signal-to-noise ratio, dB")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"{figure.replace('_', ' ')}, {scorer}, %")
    sheet.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small")
    try:
        sheet.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    except (OSError, ValueError) as error:
        raise EdgeAsdError(f"{path}: the picture cannot be written: {error}; give another --picture") from error

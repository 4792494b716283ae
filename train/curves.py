"""Figures of a training run by step in, its metrics.csv out: whole whenever the run is killed."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from edge_asd.errors import UsageError
from train.whole_file import write_whole

CURVES_NAME = "metrics.csv"


class Curves(Logger):
    """A row a call, for Lightning.

    Its own CSVLogger takes the file away where a run goes on, and writes it from its beginning where a figure is new:
    a run that is killed there has lost its rows.
    """

    def __init__(self, path: Path, *, n_steps: int) -> None:
        """Keep the rows of the first n_steps; those after them come again.

        Raises:
            UsageError: what is there are no rows of a run.
            EdgeAsdError: it cannot be written.
        """
        super().__init__()
        self._path = path
        self._columns: list[str] = []
        try:
            kept = [row for row in _rows_of(path) if int(row["step"]) < n_steps]
        except (KeyError, ValueError, csv.Error) as error:
            raise UsageError(
                f"{path}: not the curves of a run: {error!r}; expected rows with their step; remove it, and the run "
                "goes on without its earlier curves"
            ) from error
        self._write(kept)

    @property
    def name(self) -> None:
        """None: there is one."""
        return

    @property
    def version(self) -> None:
        """None: there is one."""
        return

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: settings.json has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a row.

        Raises:
            OSError: it cannot be written.
            EdgeAsdError: the same, where a figure is new.
        """
        row = {"step": str(step), **{name: str(value) for name, value in metrics.items()}}
        if not row.keys() <= set(self._columns):
            self._write([*_rows_of(self._path), row])
            return
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    @rank_zero_only
    def save(self) -> None:
        """Wait until the disk has all rows."""
        with self._path.open("rb") as file:
            os.fsync(file.fileno())

    @rank_zero_only
    def _write(self, rows: list[dict[str, str]]) -> None:
        self._columns = sorted({name for row in rows for name in row})
        text = io.StringIO()
        if rows:
            writer = csv.DictWriter(text, self._columns)
            writer.writeheader()
            writer.writerows(rows)
        write_whole(self._path, text.getvalue().encode())


def log_now(module: lightning.LightningModule, figures: Mapping[str, Any], step: int) -> None:
    """Log a row of a step, by all loggers.

    What is given to Lightning's own `log` is written after the callbacks that save the state: of a run that is killed
    between the two, it would be in neither.
    """
    row = {"epoch": module.current_epoch, **{name: float(figure) for name, figure in figures.items()}}
    for logger in module.loggers:
        logger.log_metrics(row, step)


def _rows_of(path: Path) -> list[dict[str, str]]:
    """The rows that are there, without empty cells; a last one that was cut while it was written is none."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        whole = [line for line in file if line.endswith("\n")]
    return [{name: value for name, value in row.items() if value} for row in csv.DictReader(whole)]

"""Steps of a training run in, one progress bar with the losses on the terminal out."""

from __future__ import annotations

import time
from typing import Any

import lightning
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

_SHOWN_EVERY_S = 0.5


class Progress(lightning.Callback):
    """One bar over all steps, since an epoch of a small data set may be a single step."""

    def __init__(self, console: Console) -> None:
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            speed_estimate_period=600.0,  # s; a single step may take longer than the default of 30
        )
        self._task = self._bar.add_task("training")
        self._shown_s = 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002 - Lightning's hook
        """Show the bar."""
        self._bar.update(self._task, total=trainer.estimated_stepping_batches)
        self._bar.start()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,  # noqa: ARG002 - Lightning's hook
        outputs: Any,
        batch: Any,  # noqa: ARG002 - Lightning's hook
        batch_idx: int,  # noqa: ARG002 - Lightning's hook
    ) -> None:
        """Move on, now and then: to show the loss is to wait until a GPU is done with it."""
        now_s = time.monotonic()
        if now_s - self._shown_s < _SHOWN_EVERY_S and trainer.global_step < trainer.estimated_stepping_batches:
            return
        self._shown_s = now_s
        validation = trainer.callback_metrics.get("validation_loss")
        shown = "" if validation is None else f", validation {float(validation):.3f}"
        description = f"epoch {trainer.current_epoch + 1} loss {float(outputs['loss']):.3f}{shown}"
        self._bar.update(self._task, completed=trainer.global_step, description=description)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:  # noqa: ARG002 - Lightning's hook
        """Leave the terminal as it was, also after a failure."""
        self._bar.stop()

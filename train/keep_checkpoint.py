"""Validation losses in, the checkpoint that the settings say out: of the lowest loss, or the last."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning

from edge_asd.errors import EdgeAsdError
from train.checkpoint import Checkpoint, save_checkpoint
from train.data import Split
from train.module import TrainingModule
from train.settings import TrainingSettings


class KeepCheckpoint(lightning.Callback):
    """Writes the checkpoint with the EMA weights, after each validation or whenever its loss is the lowest so far.

    It must stand ahead of the averaging callback, which takes the EMA weights away at the same hook.
    """

    def __init__(self, path: Path, classes: tuple[str, ...], split: Split, settings: TrainingSettings) -> None:
        self._path = path
        self._classes = classes
        self._split = split
        self._settings = settings
        self.lowest_loss = math.inf

    def state_dict(self) -> dict[str, Any]:
        """For a run that goes on: the checkpoint that is there may be better than those to come."""
        return {"lowest_loss": self.lowest_loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.lowest_loss = state_dict["lowest_loss"]

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Compare and write; losses of the first of two stages are of another kind and count for nothing."""
        if not isinstance(pl_module, TrainingModule) or pl_module.in_contrastive_stage:
            return
        # Of several processes the first decides and writes, and the others wait until it has.
        loss: float = trainer.strategy.broadcast(float(trainer.callback_metrics["validation_loss"]))
        if not math.isfinite(loss):
            raise EdgeAsdError(
                f"validation loss is {loss} in epoch {trainer.current_epoch}; expected a finite number; "
                "try a lower --learning-rate or --precision 32-true"
            )
        if self._settings.keep == "lowest-loss" and loss >= self.lowest_loss:
            return
        self.lowest_loss = min(loss, self.lowest_loss)
        if trainer.is_global_zero:
            self._save(trainer, pl_module, loss)
        trainer.strategy.barrier()

    def _save(self, trainer: lightning.Trainer, module: TrainingModule, loss: float) -> None:
        save_checkpoint(
            self._path,
            Checkpoint(
                network=module.network,
                spec=module.network.spec,
                classes=self._classes,
                training=self._settings.as_plain(),
                metrics={"validation_loss": loss, "epoch": float(trainer.current_epoch)},
                split=self._split,
            ),
        )

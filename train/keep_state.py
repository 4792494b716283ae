"""A training run in, now and then its whole state in a file out, from which a run that was cut off goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from edge_asd.errors import UsageError
from train.whole_file import UnreadableError, load_plain, save_whole
from train.windows import EpochDraws

STATE_NAME = "state.pt"
SAVE_EVERY_S = 60.0
"""A run that is cut off loses this much; the state of a run, some 25 MB, is written in a fraction of a second."""


class WholeFiles(TorchCheckpointIO):
    """Lightning's way to the disk, by `save_whole`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:  # noqa: ARG002 - Lightning's signature
        """Write the file."""
        save_whole(Path(path), checkpoint)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a state file says of its run. identity: by name, what the run depends on. n_steps: done so far."""

    path: Path
    identity: Mapping[str, Any]
    n_steps: int


class KeepState(Checkpoint):
    """Saves within an epoch and at its end, whenever the last time is `every_s` ago.

    Lightning saves weights, their average, optimizer, learning rate and counters; here the rest is added: the place in
    the epoch's draws, torch's random generators and what the run depends on. All other chance follows from the numbers
    of draws and steps.
    """

    def __init__(self, path: Path, draws: EpochDraws, identity: Mapping[str, Any], *, every_s: float) -> None:
        self._path = path
        self._draws = draws
        self._identity = identity
        self._every_s = every_s
        self._saved_s = time.monotonic()
        self._n_batches_done = 0
        self._generators: dict[str, Any] | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002 - Lightning's hook
        """Put the random generators where they were; all that comes ahead of the first step is done."""
        if self._generators is not None:
            torch.set_rng_state(self._generators["cpu"])
            if pl_module.device.type == "cuda":
                torch.cuda.set_rng_state(self._generators["cuda"], pl_module.device)
        self._saved_s = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,  # noqa: ARG002 - Lightning's hook
        outputs: Any,  # noqa: ARG002 - Lightning's hook
        batch: Any,  # noqa: ARG002 - Lightning's hook
        batch_idx: int,
    ) -> None:
        """Save if it is time; after the last batch validation comes first."""
        if batch_idx + 1 < trainer.num_training_batches:
            self._save_if_due(trainer, batch_idx + 1)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002 - Lightning's hook
        """Save if it is time."""
        self._save_if_due(trainer, 0)

    def _save_if_due(self, trainer: lightning.Trainer, n_batches_done: int) -> None:
        due = time.monotonic() - self._saved_s >= self._every_s
        if not trainer.strategy.reduce_boolean_decision(due, all=False):  # one process's clock decides for all
            return
        self._n_batches_done = n_batches_done
        for logger in trainer.loggers:  # a run that goes on from this state does not log its steps again
            logger.save()
        trainer.save_checkpoint(self._path)
        self._saved_s = time.monotonic()

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what Lightning does not know."""
        checkpoint["run"] = {
            "identity": self._identity,
            "epoch": trainer.current_epoch + (self._n_batches_done == 0),
            "batches_done": self._n_batches_done,
            "generators": {
                "cpu": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state(pl_module.device) if pl_module.device.type == "cuda" else None,
            },
        }

    def on_load_checkpoint(
        self,
        trainer: lightning.Trainer,  # noqa: ARG002 - Lightning's hook
        pl_module: lightning.LightningModule,  # noqa: ARG002 - Lightning's hook
        checkpoint: dict[str, Any],
    ) -> None:
        """Leave out the batches that the run has had."""
        run = checkpoint["run"]
        self._generators = run["generators"]
        self._draws.set_epoch(run["epoch"])
        self._draws.skip(run["batches_done"])


def read_state(run: Path) -> State | None:
    """What the state file in a run folder says; None where there is none.

    Raises:
        UsageError: it cannot be read.
    """
    path = run / STATE_NAME
    if not path.exists():
        return None
    try:
        content = load_plain(path)
        return State(path=path, identity=dict(content["run"]["identity"]), n_steps=int(content["global_step"]))
    except (UnreadableError, KeyError, IndexError, TypeError, ValueError) as error:
        why = str(error) if isinstance(error, UnreadableError) else "it does not say of which run"
        raise UsageError(
            f"{path}: not a readable state of a run: {why}; expected what python -m train.fit wrote; remove it, and "
            "the run begins anew"
        ) from error

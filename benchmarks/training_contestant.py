"""A contestant's name and a data folder in, on each line of stdin so many steps of training, their time as JSON out.

`product` is `python -m train.fit` as it is by default, on the prepared folder; `plain` the loop of
benchmarks/plain_training.py on the clips themselves. Their log is not written. `benchmarks.training` starts both.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import lightning
from rich.console import Console

from benchmarks.plain_training import PlainLoop
from train.acceleration import make_ready
from train.averaging import averaging
from train.beginning import begin
from train.data import load_recordings
from train.presets import preset_settings
from train.settings import Device, TrainingSettings
from train.trainer import quiet_trainer

_MOST_STEPS = 1_000


class TakeTurns(lightning.Callback):
    """Waits ahead of a turn's first step until it is told to take it, and answers after its last."""

    def __init__(self, turns: Iterator[int], settings: TrainingSettings) -> None:
        self._turns = turns
        self._settings = settings
        self._left = 0
        self._n_steps = 0
        self._began_s = 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002 - Lightning's hook
        """Wait for the first turn."""
        settings = self._settings
        answer({"ready": "product", "precision": settings.precision, "compiled": settings.compile})
        self._wait(trainer)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,  # noqa: ARG002 - Lightning's hook
        outputs: Any,
        batch: Any,  # noqa: ARG002 - Lightning's hook
        batch_idx: int,  # noqa: ARG002 - Lightning's hook
    ) -> None:
        """Answer and wait, when the turn is over."""
        self._left -= 1
        if self._left == 0:
            answer(_turn(self._began_s, self._n_steps, float(outputs["loss"])))
            self._wait(trainer)

    def _wait(self, trainer: lightning.Trainer) -> None:
        self._n_steps = self._left = next(self._turns, 0)
        trainer.should_stop = self._left == 0
        self._began_s = time.perf_counter()


def answer(content: dict[str, Any]) -> None:
    """Write a line."""
    print(json.dumps(content), flush=True)


def _turn(began_s: float, n_steps: int, loss: float) -> dict[str, Any]:
    """The loss is known, so the device is done."""
    if loss != loss:  # noqa: PLR0124 - not a number
        raise ArithmeticError("the loss is not a number; the time would be that of a fault")
    return {"steps": n_steps, "seconds": time.perf_counter() - began_s, "loss": loss}


def _product(folder: Path, batch_size: int, device: str, turns: Iterator[int]) -> None:
    settings = dataclasses.replace(
        preset_settings("tfstgram-os-scl"),
        batch_size=batch_size,
        epochs=1,
        windows_per_epoch=batch_size * _MOST_STEPS,
        ema_decay=0.9999,
        device=cast("Device", device),
    )
    beginning = begin(folder, settings, Console(stderr=True))
    settings = beginning.module.settings
    make_ready(beginning.module.network, settings)
    trainer = lightning.Trainer(
        max_epochs=1,
        callbacks=[*averaging(settings, len(beginning.training)), TakeTurns(turns, settings)],
        logger=False,
        enable_checkpointing=False,
        limit_val_batches=0,
        **quiet_trainer(settings, beginning.processes),
    )
    trainer.fit(beginning.module, beginning.training)


def _plain(folder: Path, batch_size: int, device: str, turns: Iterator[int]) -> None:
    recordings = load_recordings(folder)
    classes = sorted({recording.class_name for recording in recordings})
    answer({"ready": "plain", "precision": "32-true", "compiled": False})
    loop = PlainLoop(
        [folder / recording.file for recording in recordings],
        [classes.index(recording.class_name) for recording in recordings],
        n_classes=len(classes),
        batch_size=batch_size,
        device=device,
    )
    for n_steps in turns:
        batches = iter(loop.batches(n_steps))
        first = next(batches)  # its worker has begun, and goes on with the next ones meanwhile
        began_s = time.perf_counter()
        loss = loop.step(first)
        for batch in batches:
            loss = loop.step(batch)
        answer(_turn(began_s, n_steps, loss))


def main() -> None:
    """Take turns until stdin ends."""
    name, folder, batch_size, device = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning.*")  # advice on loaders, not faults
    turns = (int(line) for line in sys.stdin)
    (_product if name == "product" else _plain)(folder, batch_size, device, turns)


if __name__ == "__main__":
    main()

"""What a run begins with, and the state that it goes on from, in; its checkpoint and its logs in a folder out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from rich.console import Console

from train.acceleration import make_ready
from train.averaging import averaging
from train.beginning import Beginning
from train.checkpoint import CHECKPOINT_NAME
from train.curves import CURVES_NAME, Curves
from train.keep_checkpoint import KeepCheckpoint
from train.keep_state import STATE_NAME, KeepState, State, WholeFiles
from train.processes import Processes
from train.progress import Progress
from train.settings import Device, Precision, TrainingSettings
from train.stopping import KeepHandler


def train_network(
    run: Path,
    beginning: Beginning,
    identity: Mapping[str, Any],
    state: State | None,
    console: Console,
    *,
    save_every_s: float,
) -> None:
    """Train to the end.

    Args:
        run: folder that is written.
        beginning: of the run.
        identity: what the run depends on, kept in its state.
        state: to go on from; None: from the first step.
        console: shows the progress.
        save_every_s: between two savings of the state.

    Raises:
        EdgeAsdError: a file cannot be written, or the loss is not finite.
    """
    module, settings = beginning.module, beginning.module.settings
    trainer = lightning.Trainer(
        max_epochs=settings.all_epochs,
        callbacks=[
            *([Progress(console)] if beginning.processes.rank == 0 else []),
            KeepCheckpoint(run / CHECKPOINT_NAME, beginning.names, beginning.split, settings),
            *averaging(settings, len(beginning.training)),
            KeepState(run / STATE_NAME, beginning.draws, identity, every_s=save_every_s),
            KeepHandler(),
        ],
        logger=open_logs(run, state),
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=settings.validation_interval,
        plugins=[WholeFiles()],
        **quiet_trainer(settings, beginning.processes),
    )
    make_ready(module.network, settings)
    trainer.fit(
        module,
        beginning.training,
        beginning.validation,
        ckpt_path=state.path if state else None,
        weights_only=True if state else None,
    )


def open_logs(run: Path, state: State | None) -> list[Logger]:
    """The curves as CSV and for TensorBoard, those up to the state that a run goes on from, or begins anew, kept."""
    n_steps = state.n_steps if state is not None else 0
    return [
        Curves(run / CURVES_NAME, n_steps=n_steps),
        TensorBoardLogger(run, name=None, version="tensorboard", purge_step=n_steps, flush_secs=10),
    ]


def quietly(device: Device, precision: Precision) -> dict[str, Any]:
    """What every Lightning Trainer here is given: device, precision, and none of its own output."""
    return {
        "accelerator": "gpu" if device == "cuda" else "cpu",
        "precision": precision,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }


def quiet_trainer(settings: TrainingSettings, processes: Processes) -> dict[str, Any]:
    """The same with the processes that train together."""
    together: dict[str, Any] = {"devices": 1}
    if processes.count > 1:
        # What is not trained in every step must be searched for.
        searched = settings.contrastive_epochs > 0 or settings.loss == "supcon"
        together = {
            "devices": processes.on_this_node,
            "num_nodes": processes.count // processes.on_this_node,
            "strategy": DDPStrategy(find_unused_parameters=searched, broadcast_buffers=False),
            "use_distributed_sampler": False,  # EpochDraws does that
        }
    return {**quietly(settings.device, settings.precision or "32-true"), **together}

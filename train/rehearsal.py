"""A data folder and settings in, the plan of their run, measured over a few of its steps, out."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import lightning
from rich.console import Console

from train.acceleration import make_ready
from train.averaging import averaging
from train.beginning import begin
from train.plan import REHEARSED_STEPS, Plan, StepTimer, peak_memory_bytes
from train.settings import TrainingSettings
from train.trainer import quiet_trainer


def plan_run(folder: Path, settings: TrainingSettings, console: Console) -> Plan:
    """Find out what `fit` would do, by a few of its steps; nothing is written.

    Raises:
        UsageError: the data or settings cannot be trained on.
        ClipError: a clip cannot be used.
        UnavailableError: the device is not there.
    """
    beginning = begin(folder, settings, console)
    settings = beginning.module.settings
    timer = StepTimer()
    trainer = lightning.Trainer(
        max_steps=REHEARSED_STEPS,
        max_epochs=-1,
        callbacks=[*averaging(settings, len(beginning.training)), timer],
        logger=False,
        enable_checkpointing=False,
        limit_val_batches=0,
        **quiet_trainer(settings, beginning.processes),
    )
    make_ready(beginning.module.network, settings)
    trainer.fit(beginning.module, beginning.training)
    class_of_file = {recording.file: recording.class_name for recording in beginning.recordings}
    counts = {
        side: Counter(class_of_file[file] for file in files)
        for side, files in dataclasses.asdict(beginning.split).items()
    }
    return Plan(
        clips={
            name: (
                counts["train"][name],
                counts["validation"][name],
                counts["held_out"][name],
                counts["anomaly"][name],
            )
            for name in beginning.classes
        },
        n_parameters=sum(parameter.numel() for parameter in beginning.module.parameters()),
        contrastive_epochs=settings.contrastive_epochs,
        epochs=settings.all_epochs,
        steps_per_epoch=len(beginning.training),
        batch_size=settings.batch_size,
        step_s=timer.step_s,
        peak_memory_bytes=peak_memory_bytes(beginning.module.device),
    )

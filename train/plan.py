"""A training run that is to be started in, its clips, steps, memory and estimated time out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
import torch
from rich.console import Console
from rich.table import Table

REHEARSED_STEPS = 4
"""The first is left out of the time: it warms up, and compiles where wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run would do.

    clips: by class, how many train, validate, are held out, are damaged. epochs: of both stages, contrastive_epochs of
    them in the first. step_s: of a rehearsed step after the first.
    peak_memory_bytes: of the process in the rehearsed steps, or of the GPU.
    """

    clips: Mapping[str, tuple[int, int, int, int]]
    n_parameters: int
    contrastive_epochs: int
    epochs: int
    steps_per_epoch: int
    batch_size: int
    step_s: float
    peak_memory_bytes: int

    @property
    def n_steps(self) -> int:
        """Of all epochs."""
        return self.epochs * self.steps_per_epoch

    @property
    def training_s(self) -> float:
        """Estimated time of all steps, without validation and the scores at the end."""
        return self.n_steps * self.step_s


class StepTimer(lightning.Callback):
    """Takes the time at the end of every step."""

    def __init__(self) -> None:
        self._ends_s: list[float] = []

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,  # noqa: ARG002 - Lightning's hook
        pl_module: lightning.LightningModule,
        outputs: Any,  # noqa: ARG002 - Lightning's hook
        batch: Any,  # noqa: ARG002 - Lightning's hook
        batch_idx: int,  # noqa: ARG002 - Lightning's hook
    ) -> None:
        """Note the time, once the device is done."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        self._ends_s.append(time.perf_counter())

    @property
    def step_s(self) -> float:
        """Mean time of a step after the first, loading its batch included."""
        return (self._ends_s[-1] - self._ends_s[0]) / (len(self._ends_s) - 1)


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory used so far: on a GPU by torch, else by this program.

    getrusage's would be at least what the process that started this one held.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024  # in KiB


def print_plan(plan: Plan, console: Console) -> None:
    """Print clips by class, then everything else in a line each."""
    table = Table("class", "train", "validation", "held out", "damaged")
    sums = [sum(counts) for counts in zip(*plan.clips.values(), strict=True)]
    for name, counts in (*plan.clips.items(), ("all", sums)):
        table.add_row(name, *map(str, counts))
    console.print(table)
    first = f", the first {plan.contrastive_epochs} by SupCon alone" if plan.contrastive_epochs else ""
    lines = (
        ("classes", f"{len(plan.clips)}"),
        ("parameters", f"{plan.n_parameters:,}"),
        (
            "steps",
            f"{plan.epochs} epochs of {plan.steps_per_epoch} steps of {plan.batch_size} windows: {plan.n_steps}{first}",
        ),
        ("memory", f"{plan.peak_memory_bytes / 1e9:.2f} GB at its peak"),
        ("time", f"{timedelta(seconds=round(plan.training_s))} at {plan.step_s:.2f} s a step"),
        ("not in it", "validation, and the scores at the end"),
        ("measured", f"over {REHEARSED_STEPS} steps on this machine as it is now, the first not counted"),
    )
    for name, text in lines:
        console.print(f"{name}: {text}", highlight=False, markup=False, soft_wrap=True)

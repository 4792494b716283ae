"""Weights of every step in, their exponential moving average out."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from train.settings import TrainingSettings


def averaging(settings: TrainingSettings, steps_per_epoch: int) -> list[lightning.Callback]:
    """The callback that keeps averaged weights and validates with them; none where nothing is averaged."""
    decay = settings.ema_decay_for(settings.all_epochs * steps_per_epoch)
    return [] if settings.ema_decay == 0.0 else [WeightAveraging(avg_fn=ema(decay, settings.ema_extra_decay))]


def ema(decay: float, extra_decay: float) -> Any:
    """Average of two entries of the state: floats decay, whole numbers (counters, indices) are the latest."""

    def average(averaged: Tensor, latest: Tensor, _n_averaged: Tensor | int) -> Tensor:
        return torch.lerp(latest, averaged, decay) * (1.0 - extra_decay) if averaged.is_floating_point() else latest

    return average

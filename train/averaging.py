"""Weights of every step in, their exponential moving average out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import lightning
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from train.settings import TrainingSettings

_Entries: TypeAlias = "tuple[Tensor, ...] | list[Tensor]"


def averaging(settings: TrainingSettings, steps_per_epoch: int) -> list[lightning.Callback]:
    """The callback that keeps averaged weights and validates with them; none where nothing is averaged."""
    decay = settings.ema_decay_for(settings.all_epochs * steps_per_epoch)
    return [] if settings.ema_decay == 0.0 else [WeightAveraging(multi_avg_fn=ema(decay, settings.ema_extra_decay))]


def ema(decay: float, extra_decay: float) -> Callable[[_Entries, _Entries, Any], None]:
    """Average of entries of the state, all of one kind at once: floats decay, whole numbers are the latest.

    torch's own would average whole numbers too, which are counters and indices.
    """

    def average(averaged: _Entries, latest: _Entries, _n_averaged: Any) -> None:
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, latest, 1.0 - decay)
            if extra_decay:
                torch._foreach_mul_(averaged, 1.0 - extra_decay)
        else:
            torch._foreach_copy_(averaged, latest)

    return average

"""A preset of the table in, the same network with one choice of its training made otherwise out: what figures hang on.

The table trains every network as published but for what a short training needs. Each row here changes one thing, so
that it can be said which of them a figure hangs on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace

from benchmarks.noise_robustness.methods import Compute, Fitted, Method, settings_for, trained_on
from benchmarks.noise_robustness.trial import Trial
from train.settings import AugmentSettings, TrainingSettings


def _learning_rate(factor: float, settings: TrainingSettings) -> TrainingSettings:
    return replace(
        settings,
        learning_rate=factor * settings.learning_rate,
        final_learning_rate=factor * settings.final_learning_rate,
    )


def _windows(factor: int, settings: TrainingSettings) -> TrainingSettings:
    return replace(settings, windows_per_epoch=factor * (settings.windows_per_epoch or 0))


CHANGES: Mapping[str, Callable[[TrainingSettings], TrainingSettings]] = {
    "slower": functools.partial(_learning_rate, 1.0 / 3.0),
    "faster": functools.partial(_learning_rate, 3.0),
    "longer": functools.partial(_windows, 2),
    "longest": functools.partial(_windows, 4),
    "unmixed": lambda settings: replace(settings, mixup_alpha=None),
    "noisy-arcmix": lambda settings: replace(settings, loss="noisy-arcmix"),
    "arcface": lambda settings: replace(settings, loss="arcface", mixup_alpha=None),
    "headless": lambda settings: replace(settings, head_reduction=None),
    "speeds": lambda settings: replace(settings, augment=AugmentSettings(speed_share=0.1)),
    "altered": lambda settings: replace(settings, augment=AugmentSettings(altered_share=0.3)),
    "averaged": lambda settings: replace(settings, batch_norm="averaged"),
}
"""By the last word of a row's name.

slower, faster: a third and three times the learning rate. longer, longest: two and four times the windows. unmixed:
SupCon and ArcFace without mixup. noisy-arcmix: without SupCon. arcface: neither. headless: without the feature
perturbation head. speeds: windows up to 10 % faster or slower. altered: 30 % of the windows altered as a fault might,
learnt as classes of their own. averaged: statistics of batch norm as the training leaves them."""


def changed(trial: Trial, compute: Compute, *, base: str, change: str) -> Fitted:
    """The network, trained on the trial's mixtures as in the table but for one choice."""
    settings = CHANGES[change](settings_for(base, trial.protocol, compute, trial.seed))
    return trained_on(trial.folder, trial.work / f"{base}-{change}", settings)


def choices_of(base: str) -> dict[str, Method]:
    """The rows of one preset, by name."""
    return {f"{base} {change}": functools.partial(changed, base=base, change=change) for change in CHANGES}

"""The name of a row in, what trains and scores it out."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from benchmarks.noise_robustness.mixtures import MixtureSet
from benchmarks.noise_robustness.networks import Cost, Listener, cost_of, trained
from benchmarks.noise_robustness.scorers import Outputs
from benchmarks.noise_robustness.trial import Protocol, Trial
from train.presets import preset_settings
from train.settings import Device, Precision, TrainingSettings
from train.synth.check import clip_features

_MOST_EPOCHS = 10
"""Into which the windows of a training are divided, none of less than a batch: a validation ends each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """What trains and scores; it is no part of the protocol."""

    device: Device = "cpu"
    precision: Precision = "32-true"
    compile: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A method after its training.

    hear: mixtures -> outputs. scorers: names of those in scorers.SCORERS that it takes part in. settings: all that its
    training depended on, for the results.
    """

    hear: Callable[[MixtureSet], Outputs]
    scorers: tuple[str, ...]
    cost: Cost
    settings: Mapping[str, object]


Method: TypeAlias = Callable[[Trial, Compute], Fitted]


def log_mel_nearest(trial: Trial, compute: Compute) -> Fitted:  # noqa: ARG001 - of a Method
    """Nothing is trained: a window is the mean and the standard deviation over time of each mel band."""

    def hear(mixtures: MixtureSet) -> Outputs:
        features = np.stack([clip_features(wave) for wave in mixtures.waves()]).astype(np.float32)
        return Outputs(class_names=mixtures.class_names, layers={"embedding": features})

    cost = Cost(training_s=0.0, training_cpu_s=0.0, steps=0, parameters=0, multiply_adds=0)
    return Fitted(hear=hear, scorers=("k-NN",), cost=cost, settings={})


def network(trial: Trial, compute: Compute, *, preset: str) -> Fitted:
    """A preset of train.fit, trained on the trial's mixtures for as many windows as any other."""
    return trained_on(trial.folder, trial.work / preset, settings_for(preset, trial.protocol, compute, trial.seed))


def trained_on(folder: Path, run: Path, settings: TrainingSettings) -> Fitted:
    """A network trained on a data folder, whose run folder may hold it already."""
    checkpoint = trained(folder, run, settings)
    scorers = ("margin", "k-NN", "k-NN map") if settings.model == "margin" else ("error",)
    return Fitted(
        hear=Listener(checkpoint, settings.device),
        scorers=scorers,
        cost=cost_of(run, settings),
        settings=settings.as_plain(),
    )


def settings_for(preset: str, protocol: Protocol, compute: Compute, seed: int) -> TrainingSettings:
    """The preset's settings with the protocol's windows, learning rate and batch; a baseline keeps its own two."""
    settings = preset_settings(preset)
    epochs = max(1, min(_MOST_EPOCHS, protocol.windows // protocol.batch_size))
    if settings.model == "margin":
        settings = dataclasses.replace(
            settings,
            learning_rate=protocol.learning_rate,
            final_learning_rate=protocol.learning_rate / 10.0,
            batch_size=protocol.batch_size,
            batch_norm=protocol.batch_norm,
        )
    return dataclasses.replace(
        settings,
        epochs=epochs,
        windows_per_epoch=-(-protocol.windows // epochs),
        keep=protocol.keep,
        seed=seed,
        device=compute.device,
        precision=compute.precision if settings.model == "margin" else "32-true",
        compile=compute.compile and settings.model == "margin",
    )


METHODS: Mapping[str, Method] = {
    "log-mel": log_mel_nearest,
    **{
        preset: functools.partial(network, preset=preset)
        for preset in ("ae", "stgram-arcface", "tastgram-namix", "logmel-os-scl", "stgram-os-scl", "tfstgram-os-scl")
    },
}
"""In the order of the table; stgram-os-scl is tfstgram-os-scl without TFgram."""

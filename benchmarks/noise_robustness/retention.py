"""A trial and the preset of an encoder in, it trained on mixtures, frozen, retained, denoised or heard apart out."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks.noise_robustness.corpus import write_corpus
from benchmarks.noise_robustness.methods import Compute, Fitted, Method, network, settings_for, trained_on
from benchmarks.noise_robustness.mixtures import MixtureSet
from benchmarks.noise_robustness.networks import Listener, finished, times_of
from benchmarks.noise_robustness.scorers import ENROLLED, Outputs
from benchmarks.noise_robustness.trial import Trial
from train.checkpoint import load_checkpoint
from train.retain.losses import mixture_target
from train.retain.run import retain
from train.retain.settings import RetainSettings

_NEAREST = ("k-NN", "k-NN unit map")
_SCORERS = ("margin", *_NEAREST, "fusion")
_MOST_OF_THE_NOISE = 0.8
"""Share of the noise clips that a batch may hold, where there are few: some validate, and none is drawn twice."""

ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "denoised": {"objective": "denoise"},
    "tagged": {"align_weight": 0.0},
    "aligned": {"tag_weight": 0.0},
    "retained": {},
}
"""What of train.retain's settings differs: the denoising baseline, each loss alone, both."""


def on_mixtures(trial: Trial, compute: Compute, *, base: str) -> Fitted:
    """The network of the rivals' table: trained on mixtures in stationary noise from the beginning."""
    return dataclasses.replace(network(trial, compute, preset=base), scorers=_SCORERS)


def frozen(trial: Trial, compute: Compute, *, base: str) -> Fitted:
    """The encoder as train.fit leaves it, trained on the same machines without noise."""
    machines, _ = write_corpus(trial)
    settings = settings_for(base, trial.protocol, compute, trial.seed)
    return dataclasses.replace(trained_on(machines, _start(trial, base), settings), scorers=_SCORERS)


def _start(trial: Trial, base: str) -> Path:
    """The run folder of the encoder that has not heard noise yet."""
    return trial.work / f"{base}-clean"


def fine_tuned(trial: Trial, compute: Compute, *, base: str, changes: Mapping[str, Any]) -> Fitted:
    """The encoder after train.retain, for the protocol's windows; its time is that of both trainings."""
    earlier = frozen(trial, compute, base=base).cost  # trained now, where no row before did
    start = _start(trial, base)
    settings = _settings(trial, compute, start, changes)
    name = [start.name, *(f"{name}-{value}" for name, value in changes.items()), "fine-tuned", str(settings.steps)]
    run = trial.work / "-".join(name)
    machines, noise = write_corpus(trial)
    finished(run, lambda: retain(machines, noise, run, settings, Console(quiet=True), resume=True))
    training_s, training_cpu_s = times_of(run)
    cost = dataclasses.replace(
        earlier,
        training_s=earlier.training_s + training_s,
        training_cpu_s=earlier.training_cpu_s + training_cpu_s,
        steps=earlier.steps + settings.steps,
    )
    told = settings.as_plain() | {"start_from": base}
    return Fitted(hear=Listener(load_checkpoint(run), compute.device), scorers=_SCORERS, cost=cost, settings=told)


def _settings(trial: Trial, compute: Compute, start: Path, changes: Mapping[str, Any]) -> RetainSettings:
    protocol = trial.protocol
    n_noise = sum(len(clips) for clips in trial.sides.train_noise.values())
    batch_size = min(protocol.batch_size, max(2, int(_MOST_OF_THE_NOISE * n_noise)))
    steps = -(-protocol.fine_tuning_windows // batch_size)
    return RetainSettings(
        start_from=str(start),
        steps=steps,
        warm_up_steps=steps // 20,
        validate_every=steps,
        batch_size=batch_size,
        seed=trial.seed,
        device=compute.device,
        precision=compute.precision,
        compile=compute.compile,
        **changes,
    )


def oracle(trial: Trial, compute: Compute, *, base: str) -> Fitted:
    """The frozen encoder hears machine and noise apart; what train.retain aligns to is made of both.

    Both are as loud as in the mixtures of train.retain, whatever the test's ratio.
    """
    fitted = frozen(trial, compute, base=base)
    settings = RetainSettings()
    snr_db, _ = settings.snr_db
    listener = Listener(load_checkpoint(_start(trial, base)), compute.device)

    def hear(mixtures: MixtureSet) -> Outputs:
        parts = np.stack([mixture.parts(snr_db) for mixture in mixtures.mixtures], axis=1)  # (2, N, samples)
        clean, noise = (listener.hear(waves, mixtures.class_names) for waves in parts)
        layers = {
            name: mixture_target(
                torch.from_numpy(vectors),
                torch.from_numpy(noise.layers[name]),
                settings.clean_share,
                settings.scaling,
            ).numpy()
            for name, vectors in clean.layers.items()
        }
        return Outputs(class_names=mixtures.class_names, layers=layers, groups=mixtures.groups)

    return dataclasses.replace(fitted, hear=hear, scorers=_NEAREST)


def unheard_methods(base: str) -> dict[str, Method]:
    """The rows of machines of a type that was never trained on, which have no class and so no margin, by name."""
    scorers = tuple(f"{scorer}{of}" for scorer in _NEAREST for of in ("", *(f" of {n}" for n in ENROLLED)))

    def enrolled(trial: Trial, compute: Compute, *, method: Method) -> Fitted:
        return dataclasses.replace(method(trial, compute), scorers=scorers)

    return {name: functools.partial(enrolled, method=method) for name, method in retention_methods(base).items()}


def retention_methods(base: str) -> dict[str, Method]:
    """All rows of one encoder, by name."""
    return {
        f"{base} on mixtures": functools.partial(on_mixtures, base=base),
        f"{base} frozen": functools.partial(frozen, base=base),
        **{
            f"{base} {name}": functools.partial(fine_tuned, base=base, changes=changes)
            for name, changes in ABLATIONS.items()
        },
        f"{base} oracle": functools.partial(oracle, base=base),
    }

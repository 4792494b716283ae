"""A data folder and settings in, all that a run begins with out: recordings, split, batches and the network."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from rich.console import Console
from torch.utils.data import DataLoader, Dataset

from edge_asd.errors import UnavailableError, UsageError
from edge_asd.types import FeatureSpec
from train.acceleration import settle
from train.checkpoint import load_checkpoint
from train.data import Recording, Split, left_out, list_folder, open_waves, split_recordings
from train.data.generated import GENERATED_NOTE, is_generated
from train.models import spec_for
from train.module import TrainingModule
from train.processes import Processes
from train.settings import TrainingSettings
from train.shared_batch_norm import share_batch_norm
from train.windows import Batch, EpochDraws, TrainingWindows, network_classes, validation_windows, whole_batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What a run begins with.

    draws: the numbers of the windows that `training` draws. generated: whether the sound was, not recorded.
    """

    recordings: tuple[Recording, ...]
    classes: tuple[str, ...]
    split: Split
    draws: EpochDraws
    training: DataLoader[Any]
    validation: DataLoader[Any]
    module: TrainingModule
    processes: Processes
    generated: bool

    @property
    def windows(self) -> Dataset[Batch]:
        """That `training` draws, by the numbers of the draws."""
        return self.training.dataset

    @property
    def names(self) -> tuple[str, ...]:
        """Of the network's outputs."""
        return network_classes(self.classes, self.module.settings.augment)


def begin(folder: Path, settings: TrainingSettings, console: Console) -> Beginning:
    """Do all that comes ahead of the first step, without a trace on the disk.

    Raises:
        UsageError: the data or settings cannot be trained on.
        ClipError: a clip cannot be used.
        UnavailableError: the device is not there.
    """
    processes = Processes.from_environment()
    _check_shared(settings, processes)
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise UnavailableError("--device is cuda and torch finds no CUDA device; expected one; use --device cpu")
    listing = list_folder(folder)
    recordings = listing.labelled
    classes, split = split_recordings(
        recordings,
        seed=settings.seed,
        validation_share=settings.validation_share,
        held_out_share=settings.held_out_share,
        limit=settings.limit,
        fewest_classes=settings.fewest_classes,
    )
    class_of_file = {recording.file: recording.class_name for recording in recordings}
    split = dataclasses.replace(
        split,
        held_out=_first_of_each_class(split.held_out, class_of_file, settings.limit),
        anomaly=_first_of_each_class(split.anomaly, class_of_file, settings.limit),
    )
    generated = is_generated(folder)
    for line in (*([GENERATED_NOTE] if generated else []), *left_out(listing, classes)):
        console.print(f"note: {line}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    lightning.seed_everything(settings.seed, verbose=False)
    draws, training, validation = _loaders(folder, recordings, classes, split, settings, processes=processes)
    names = network_classes(classes, settings.augment)
    n_windows = len(draws) * processes.count * settings.all_epochs
    settings = settle(settings, n_windows=n_windows, n_processes=processes.count)
    module = TrainingModule(spec_for(settings, names), settings, processes)
    if settings.start_from is not None:
        _load_start(module, Path(settings.start_from), names, split)
    if processes.count > 1:
        share_batch_norm(module.network)
    return Beginning(
        recordings=tuple(recordings),
        classes=classes,
        split=split,
        draws=draws,
        training=training,
        validation=validation,
        module=module,
        processes=processes,
        generated=generated,
    )


def _check_shared(settings: TrainingSettings, processes: Processes) -> None:
    if processes.count == 1:
        return
    if settings.model != "margin":
        raise UsageError(
            f"preset {settings.preset} was started in {processes.count} processes; expected one: the batch norm and "
            "dropout of baselines cannot be shared; start it without torchrun"
        )
    if settings.compile:
        raise UsageError(
            f"--compile is given in {processes.count} processes; expected none of it: what they tell each other "
            "within a step is not compiled; leave it out"
        )
    if settings.batch_size % processes.count:
        raise UsageError(
            f"--batch-size is {settings.batch_size} in {processes.count} processes; expected a multiple of their "
            "number: it is that of all of them together"
        )


def _first_of_each_class(files: Sequence[str], class_of_file: Mapping[str, str], limit: int | None) -> tuple[str, ...]:
    """So that a quick try does not end in long scoring."""
    by_class: dict[str, list[str]] = defaultdict(list)
    for file in files:
        by_class[class_of_file[file]].append(file)
    return tuple(sorted(file for members in by_class.values() for file in members[:limit]))


def _loaders(
    folder: Path,
    recordings: Sequence[Recording],
    classes: tuple[str, ...],
    split: Split,
    settings: TrainingSettings,
    *,
    processes: Processes,
) -> tuple[EpochDraws, DataLoader[Any], DataLoader[Any]]:
    n_samples = FeatureSpec().window_samples
    class_of_file = {
        recording.file: classes.index(recording.class_name)
        for recording in recordings
        if recording.class_name in classes
    }
    waves = open_waves(folder, split.train + split.validation, later=split.held_out + split.anomaly)
    train_waves, validation_waves = waves[: len(split.train)], waves[len(split.train) :]
    n_windows = settings.windows_per_epoch or int(np.maximum(1, train_waves.lengths // n_samples).sum())
    n_batches = math.ceil(n_windows / settings.batch_size)  # whole ones: batch norm cannot take a batch of one
    dataset = TrainingWindows(
        train_waves,
        [class_of_file[file] for file in split.train],
        settings.augment,
        n_classes=len(classes),
        n_samples=n_samples,
        seed=settings.seed,
    )
    validation = validation_windows(
        validation_waves,
        [class_of_file[file] for file in split.validation],
        settings.augment,
        n_classes=len(classes),
        n_samples=n_samples,
    )
    rows = processes.rows(settings.batch_size)
    draws = EpochDraws(n_batches * settings.batch_size, batch_size=settings.batch_size, rows=rows)
    # Generators of their own: the global one is left to the network, for a run that goes on to go on from.
    return (
        draws,
        DataLoader(
            dataset,
            sampler=draws,
            batch_size=rows.stop - rows.start,
            collate_fn=whole_batch,
            generator=torch.Generator(),
        ),
        DataLoader(validation, batch_size=settings.batch_size, collate_fn=whole_batch, generator=torch.Generator()),
    )


def _load_start(module: TrainingModule, path: Path, classes: tuple[str, ...], split: Split) -> None:
    start = load_checkpoint(path)
    if start.classes != classes or start.spec != module.network.spec:
        raise UsageError(
            f"--start-from {path}: classes {', '.join(start.classes)}, {start.spec}; expected {', '.join(classes)}, "
            f"{module.network.spec}; train it with the same options"
        )
    seen = sorted(set(start.split.train) - set(split.train))
    if seen:
        raise UsageError(
            f"--start-from {path}: it was trained on {len(seen)} recordings that this run holds out "
            f"({', '.join(seen[:5])}); expected the same split; give the same --seed, shares and --limit"
        )
    module.network.load_state_dict(start.network.state_dict())

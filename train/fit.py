"""A data folder and settings in, a run folder with the best checkpoint and all that led to it out."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import math
import shlex
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from rich.console import Console
from torch.utils.data import DataLoader

from edge_asd.errors import EdgeAsdError, UnavailableError, UsageError
from edge_asd.types import FeatureSpec
from train.averaging import averaging
from train.checkpoint import CHECKPOINT_NAME, Checkpoint, load_checkpoint, save_checkpoint
from train.data import Recording, Split, left_out, list_folder, open_waves, split_recordings
from train.evaluation.streams import metrics_of, print_scores, score_streams, write_scores
from train.keep_best import KeepBest
from train.models import spec_for
from train.module import TrainingModule
from train.plan import REHEARSED_STEPS, Plan, StepTimer, peak_memory_bytes, print_plan
from train.progress import Progress
from train.run_folder import open_run, write_json, write_start
from train.settings import TrainingSettings
from train.settings_options import add_settings, settings_from
from train.windows import EpochDraws, TrainingWindows, network_classes, validation_windows, whole_batch


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    recordings: tuple[Recording, ...]
    classes: tuple[str, ...]
    split: Split
    training: DataLoader[Any]
    validation: DataLoader[Any]
    module: TrainingModule

    @property
    def names(self) -> tuple[str, ...]:
        return network_classes(self.classes, self.module.settings.augment)


def fit(folder: Path, run: Path, settings: TrainingSettings, console: Console) -> Checkpoint:
    """Train on a data folder; what the run leaves lies in `run`: settings, split, metrics, scores, checkpoint.

    Raises:
        UsageError: the data or settings cannot be trained on, or `run` holds another run.
        ClipError: a clip cannot be used.
        UnavailableError: the device is not there.
        EdgeAsdError: the run folder cannot be written, or the loss is not finite.
    """
    prepared = _prepare(folder, settings, console)
    open_run(run)
    write_start(run, settings, prepared.classes, prepared.split, prepared.recordings)
    keep_best = KeepBest(run / CHECKPOINT_NAME, prepared.names, prepared.split, settings)
    trainer = lightning.Trainer(
        max_epochs=settings.all_epochs,
        callbacks=[Progress(console), keep_best, *averaging(settings, len(prepared.training))],
        logger=[CSVLogger(run, name=None, version=""), TensorBoardLogger(run, name=None, version="tensorboard")],
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=min(settings.validate_every, settings.epochs),  # at least once, to keep a checkpoint
        **_quiet_trainer(settings),
    )
    if settings.compile:
        prepared.module.network.compile()
    trainer.fit(prepared.module, prepared.training, prepared.validation)
    checkpoint = load_checkpoint(run)
    streams = score_streams(checkpoint, folder, device=settings.device)
    write_scores(run / "scores.csv", streams)
    checkpoint = dataclasses.replace(checkpoint, metrics={**checkpoint.metrics, **metrics_of(streams)})
    save_checkpoint(run / CHECKPOINT_NAME, checkpoint)
    write_json(run / "metrics.json", checkpoint.metrics)
    print_scores(streams, console)
    return checkpoint


def plan_run(folder: Path, settings: TrainingSettings, console: Console) -> Plan:
    """Find out what `fit` would do, by a few of its steps; nothing is written.

    Raises:
        UsageError: the data or settings cannot be trained on.
        ClipError: a clip cannot be used.
        UnavailableError: the device is not there.
    """
    prepared = _prepare(folder, settings, console)
    timer = StepTimer()
    trainer = lightning.Trainer(
        max_steps=REHEARSED_STEPS,
        max_epochs=-1,
        callbacks=[*averaging(settings, len(prepared.training)), timer],
        logger=False,
        limit_val_batches=0,
        **_quiet_trainer(settings),
    )
    if settings.compile:
        prepared.module.network.compile()
    trainer.fit(prepared.module, prepared.training)
    class_of_file = {recording.file: recording.class_name for recording in prepared.recordings}
    counts = {
        side: Counter(class_of_file[file] for file in files)
        for side, files in dataclasses.asdict(prepared.split).items()
    }
    return Plan(
        clips={
            name: (
                counts["train"][name],
                counts["validation"][name],
                counts["held_out"][name],
                counts["anomaly"][name],
            )
            for name in prepared.classes
        },
        n_parameters=sum(parameter.numel() for parameter in prepared.module.parameters()),
        epochs=settings.all_epochs,
        steps_per_epoch=len(prepared.training),
        batch_size=settings.batch_size,
        step_s=timer.step_s,
        peak_memory_bytes=peak_memory_bytes(prepared.module.device),
    )


def _prepare(folder: Path, settings: TrainingSettings, console: Console) -> _Prepared:
    """All that comes ahead of the first step, without a trace on the disk."""
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
    )
    class_of_file = {recording.file: recording.class_name for recording in recordings}
    split = dataclasses.replace(
        split,
        held_out=_first_of_each_class(split.held_out, class_of_file, settings.limit),
        anomaly=_first_of_each_class(split.anomaly, class_of_file, settings.limit),
    )
    for line in left_out(listing, classes):
        console.print(f"note: {line}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    lightning.seed_everything(settings.seed, verbose=False)
    training, validation = _loaders(folder, recordings, classes, split, settings)
    names = network_classes(classes, settings.augment)
    module = TrainingModule(spec_for(settings, names), settings)
    if settings.start_from is not None:
        _load_start(module, Path(settings.start_from), names, split)
    return _Prepared(
        recordings=tuple(recordings),
        classes=classes,
        split=split,
        training=training,
        validation=validation,
        module=module,
    )


def _quiet_trainer(settings: TrainingSettings) -> dict[str, Any]:
    return {
        "accelerator": "gpu" if settings.device == "cuda" else "cpu",
        "devices": 1,
        "precision": settings.precision,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }


def _first_of_each_class(files: Sequence[str], class_of_file: Mapping[str, str], limit: int | None) -> tuple[str, ...]:
    """So that a quick try does not end in long scoring."""
    by_class: dict[str, list[str]] = defaultdict(list)
    for file in files:
        by_class[class_of_file[file]].append(file)
    return tuple(sorted(file for members in by_class.values() for file in members[:limit]))


def _loaders(
    folder: Path, recordings: Sequence[Recording], classes: tuple[str, ...], split: Split, settings: TrainingSettings
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    n_samples = FeatureSpec().window_samples
    class_of_file = {
        recording.file: classes.index(recording.class_name)
        for recording in recordings
        if recording.class_name in classes
    }
    waves = open_waves(folder, split.train + split.validation)
    train_waves, validation_waves = waves[: len(split.train)], waves[len(split.train) :]
    n_windows = settings.windows_per_epoch or int(np.maximum(1, train_waves.lengths // n_samples).sum())
    n_windows = (
        math.ceil(n_windows / settings.batch_size) * settings.batch_size
    )  # batch norm cannot take a batch of one
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
    loading: dict[str, Any] = {"batch_size": settings.batch_size, "num_workers": 0, "collate_fn": whole_batch}
    return DataLoader(dataset, sampler=EpochDraws(n_windows), **loading), DataLoader(validation, **loading)


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train.fit",
        description="Train a network on healthy recordings; damaged ones serve for the test alone.",
        epilog="Example: python -m train.fit data/bldc_motor --preset tfstgram-os-scl --out runs/bldc. A quick try: "
        "--epochs 1 --limit 64",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("data", type=Path, help="data folder: DCASE, MIMII, with a metadata.csv, or prepared")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", type=Path, help="run folder: everything that the run leaves lies there")
    target.add_argument(
        "--dry-run",
        action="store_true",
        help="print clips, classes, steps, memory and estimated time by a few steps, and write nothing",
    )
    add_settings(parser)
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning.*")  # advice on worker counts, not faults
    try:
        if options.dry_run:
            print_plan(plan_run(options.data, settings_from(options), console), Console())
            return 0
        checkpoint = fit(options.data, options.out, settings_from(options), console)
    except EdgeAsdError as error:
        console.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return error.exit_code
    command = shlex.join(["python", "-m", "train.fit", *(arguments if arguments is not None else sys.argv[1:])])
    (options.out / "command.txt").write_text(command + "\n", encoding="utf-8")
    for name, value in checkpoint.metrics.items():
        console.print(f"{name}: {value:.4g}", highlight=False, markup=False)
    print(options.out / CHECKPOINT_NAME)
    return 0


if __name__ == "__main__":
    sys.exit(main())

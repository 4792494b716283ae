"""A data folder and settings in, a run folder with the best checkpoint and all that led to it out."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import logging
import math
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.loggers import CSVLogger
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader

from edge_asd.errors import EdgeAsdError, UnavailableError, UsageError
from edge_asd.types import FeatureSpec
from train.checkpoint import CHECKPOINT_NAME, Checkpoint, load_checkpoint, save_checkpoint
from train.data import Recording, Split, left_out, list_folder, open_waves, split_recordings
from train.evaluation.streams import metrics_of, print_scores, score_streams, write_scores
from train.module import TrainingModule
from train.progress import Progress
from train.settings import TrainingSettings
from train.settings_options import add_settings, settings_from
from train.windows import EpochDraws, TrainingWindows, network_classes, validation_windows, whole_batch


class KeepBest(lightning.Callback):
    """Writes the checkpoint whenever the validation loss of the EMA weights is the lowest so far.

    It must stand ahead of the averaging callback, which takes the EMA weights away at the same hook.
    """

    def __init__(self, path: Path, classes: tuple[str, ...], split: Split, settings: TrainingSettings) -> None:
        self._path = path
        self._classes = classes
        self._split = split
        self._settings = settings
        self.best_loss = math.inf

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Compare and write; losses of the first of two stages are of another kind and count for nothing."""
        if not isinstance(pl_module, TrainingModule) or pl_module.in_contrastive_stage:
            return
        loss = float(trainer.callback_metrics["validation_loss"])
        if not math.isfinite(loss):
            raise EdgeAsdError(
                f"validation loss is {loss} in epoch {trainer.current_epoch}; expected a finite number; "
                "try a lower --learning-rate or --precision 32-true"
            )
        if loss >= self.best_loss:
            return
        self.best_loss = loss
        save_checkpoint(
            self._path,
            Checkpoint(
                network=pl_module.network,
                spec=pl_module.network.spec,
                classes=self._classes,
                training=self._settings.as_plain(),
                metrics={"validation_loss": loss, "epoch": float(trainer.current_epoch)},
                split=self._split,
            ),
        )


def fit(folder: Path, run: Path, settings: TrainingSettings, console: Console) -> Checkpoint:
    """Train on a data folder; what the run leaves lies in `run`: settings, split, metrics, scores, checkpoint.

    Raises:
        UsageError: the data or settings cannot be trained on, or `run` holds another run.
        ClipError: a clip cannot be used.
        UnavailableError: the device is not there.
        EdgeAsdError: the run folder cannot be written, or the loss is not finite.
    """
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
    for line in left_out(listing, classes):
        console.print(f"note: {line}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    _open_run(run)
    _write_start(run, settings, classes, split, recordings)
    lightning.seed_everything(settings.seed, verbose=False)
    training, validation = _loaders(folder, recordings, classes, split, settings)
    names = network_classes(classes, settings.augment)
    keep_best = KeepBest(run / CHECKPOINT_NAME, names, split, settings)
    n_steps = settings.all_epochs * len(training)
    trainer = lightning.Trainer(
        accelerator="gpu" if settings.device == "cuda" else "cpu",
        devices=1,
        precision=settings.precision,
        max_epochs=settings.all_epochs,
        callbacks=[Progress(console), keep_best, *_averaging(settings, n_steps)],
        logger=CSVLogger(run, name=None, version=""),
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=min(settings.validate_every, settings.epochs),  # at least once, to keep a checkpoint
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = TrainingModule(settings.network_spec(len(names)), settings)
    if settings.start_from is not None:
        _load_start(module, Path(settings.start_from), names, split)
    if settings.compile:
        module.network.compile()
    trainer.fit(module, training, validation)
    checkpoint = load_checkpoint(run)
    streams = score_streams(checkpoint, folder, device=settings.device)
    write_scores(run / "scores.csv", streams)
    checkpoint = dataclasses.replace(checkpoint, metrics={**checkpoint.metrics, **metrics_of(streams)})
    save_checkpoint(run / CHECKPOINT_NAME, checkpoint)
    _write_json(run / "metrics.json", checkpoint.metrics)
    print_scores(streams, console)
    return checkpoint


def _averaging(settings: TrainingSettings, n_steps: int) -> list[lightning.Callback]:
    decay = settings.ema_decay_for(n_steps)
    return [] if settings.ema_decay == 0.0 else [WeightAveraging(avg_fn=_ema(decay, settings.ema_extra_decay))]


def _ema(decay: float, extra_decay: float) -> Any:
    """Average of two entries of the state: floats decay, whole numbers (counters, indices) are the latest."""

    def average(averaged: Tensor, latest: Tensor, _n_averaged: Tensor | int) -> Tensor:
        return torch.lerp(latest, averaged, decay) * (1.0 - extra_decay) if averaged.is_floating_point() else latest

    return average


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
            f"--start-from {path}: classes {', '.join(start.classes)} of {'+'.join(start.spec.branches)}; expected "
            f"{', '.join(classes)} of {'+'.join(module.network.spec.branches)}; train it with the same options"
        )
    seen = sorted(set(start.split.train) - set(split.train))
    if seen:
        raise UsageError(
            f"--start-from {path}: it was trained on {len(seen)} recordings that this run holds out "
            f"({', '.join(seen[:5])}); expected the same split; give the same --seed, shares and --limit"
        )
    module.network.load_state_dict(start.network.state_dict())


def _open_run(run: Path) -> None:
    if (run / CHECKPOINT_NAME).exists():
        raise UsageError(f"{run}: holds a run already; expected a new or empty folder; give another --out or remove it")
    try:
        run.mkdir(parents=True, exist_ok=True)
        (run / "metrics.csv").write_text("")  # the logger would fail on it only after the first epoch
    except OSError as error:
        raise UsageError(
            f"{run}: cannot be written: {error.strerror}; expected a writable folder; give another --out"
        ) from error


def _write_start(
    run: Path, settings: TrainingSettings, classes: Sequence[str], split: Split, recordings: Sequence[Recording]
) -> None:
    _write_json(run / "settings.json", settings.as_plain())
    _write_json(run / "classes.json", list(classes))
    by_file = {recording.file: recording for recording in recordings}
    with (run / "split.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "class", "side", "group"])
        for side, files in dataclasses.asdict(split).items():
            for name in files:
                writer.writerow([name, by_file[name].class_name, side, by_file[name].group])


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train.fit",
        description="Train a network on healthy recordings; damaged ones serve for the test alone.",
        epilog="Example: python -m train.fit data/bldc_motor --preset tfstgram-os-scl --out runs/bldc",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("data", type=Path, help="data folder: DCASE, MIMII, with a metadata.csv, or prepared")
    parser.add_argument("--out", type=Path, required=True, help="run folder: everything that the run leaves lies there")
    add_settings(parser)
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning.*")  # advice on worker counts, not faults
    try:
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

"""A data folder, a noise folder and settings in, a run folder with the retained encoder and all that led to it out."""

from __future__ import annotations

import csv
import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from rich.console import Console
from torch.utils.data import DataLoader

from edge_asd.errors import UnavailableError, UsageError
from edge_asd.heap import keep_all
from edge_asd.types import FeatureSpec
from train.acceleration import lay_out, settle
from train.checkpoint import CHECKPOINT_NAME, Checkpoint, load_checkpoint, network_for_device, save_checkpoint
from train.keep_state import SAVE_EVERY_S, STATE_NAME, KeepState, State, WholeFiles
from train.processes import Processes
from train.progress import Progress
from train.resume import digest_of, has_ended, open_or_resume, sound_of
from train.retain.class_weights import classes_of_result, with_mean_embeddings
from train.retain.encoders import (
    DEFAULT_START,
    ENCODER_NAME,
    NetworkEncoder,
    PluggedEncoder,
    open_plugged,
    save_plugged,
)
from train.retain.material import Material, gather
from train.retain.module import RetainModule
from train.retain.settings import RetainSettings
from train.run_folder import METRICS_NAME, hold_run, telling_of_a_full_disk, write_json, write_start
from train.trainer import open_logs, quietly
from train.windows import EpochDraws, whole_batch

_VALIDATION_BATCHES = 2
_MEAN_OF = 32
"""Mixtures that a class weight is the mean embedding of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retained:
    """What a run left. checkpoint: where a device runs the encoder. metrics: of its last validation."""

    file: Path
    checkpoint: Checkpoint | None
    metrics: dict[str, float]


def retain(
    folder: Path,
    noise_folder: Path,
    run: Path,
    settings: RetainSettings,
    console: Console,
    *,
    test_noise: Sequence[Path] = (),
    resume: bool = False,
    save_every_s: float = SAVE_EVERY_S,
) -> Retained:
    """Train an encoder to keep both sounds of a mixture; what the run leaves lies in `run`.

    Args:
        folder: data folder of the machines.
        noise_folder: clips of noise and their tags.
        run: folder that is written.
        settings: of the run.
        console: where progress is shown.
        test_noise: folders of noise that will be tested with, of which none may be trained with.
        resume: go on with the run in `run` where it was cut off; begin it where there is none, leave it where it ended.
        save_every_s: time between two savings of the state that a run goes on from.

    Raises:
        UsageError: the data, the start or the settings cannot be trained on, or `run` holds another run.
        ClipError: a clip cannot be used.
        UnavailableError: the device is not there.
        TemporaryError: another process trains into `run`.
        EdgeAsdError: the run folder cannot be written, or the loss is not finite.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise UnavailableError("--device is cuda and torch finds no CUDA device; expected one; use --device cpu")
    lightning.seed_everything(settings.seed, verbose=False)
    n_windows = settings.steps * settings.batch_size
    settings = settle(settings, n_windows=n_windows, n_processes=1)
    start, encoder = _open_encoder(folder, settings)
    spec = start.feature_spec if start is not None else FeatureSpec()
    material = gather(folder, noise_folder, settings, start=start, test_noise=test_noise, n_samples=spec.window_samples)
    module = RetainModule(
        encoder, settings, n_machines=len(material.classes), n_tags=len(material.tags), feature_spec=spec
    )
    identity = _identity(folder, noise_folder, settings, material)
    with hold_run(run):
        state = open_or_resume(run, identity, Processes(), resume=resume)
        if resume and has_ended(run):
            return _ended(run, settings)
        with telling_of_a_full_disk(run):
            write_start(
                run,
                settings,
                material.classes,
                material.split,
                material.recordings,
                folders={"data": folder, "noise": noise_folder},
                resumed_at=state.n_steps if state is not None else None,
            )
            if state is None:
                _write_noise(run / "noise.csv", material)
            metrics = _train(run, module, material, identity, state, console=console, save_every_s=save_every_s)
            _save(run, module, material, start, metrics)
            write_json(run / METRICS_NAME, metrics)
            (run / STATE_NAME).unlink(missing_ok=True)
        return _ended(run, settings)


def _make_ready(module: RetainModule) -> None:
    """Lay the weights of student and teacher out, compile both where wanted, keep freed memory for the next step."""
    keep_all()
    for encoder in (module.student, module.teacher):
        if isinstance(encoder, NetworkEncoder):
            lay_out(encoder.network, module.settings.precision)
        if encoder is not None and module.settings.compile:
            encoder.compile(dynamic=False)  # the teacher hears twice as many windows at once


def _ended(run: Path, settings: RetainSettings) -> Retained:
    """What lies in the folder of a run that came to its end."""
    metrics = json.loads((run / METRICS_NAME).read_text(encoding="utf-8"))
    if not settings.trains_device_network:
        return Retained(file=run / ENCODER_NAME, checkpoint=None, metrics=metrics)
    return Retained(file=run / CHECKPOINT_NAME, checkpoint=load_checkpoint(run), metrics=metrics)


def _identity(folder: Path, noise_folder: Path, settings: RetainSettings, material: Material) -> dict[str, Any]:
    """By name, all that a run must not be resumed without."""
    split = material.split
    noise = [clip.file for clips in material.noise.values() for clip in clips]
    labels = [[(clip.file, clip.tag) for clip in clips] for clips in material.noise.values()]
    labels.append([(recording.file, recording.class_name) for recording in material.recordings])
    sound = [sound_of(folder, sorted({*split.train, *split.validation})), sound_of(noise_folder, noise)]
    return {
        "settings": settings.as_plain(),
        "classes": list(material.classes),
        "split": digest_of(dataclasses.asdict(split)),
        "sound": digest_of(sound),
        "labels": digest_of(labels),
    }


def _train(
    run: Path,
    module: RetainModule,
    material: Material,
    identity: Mapping[str, Any],
    state: State | None,
    *,
    console: Console,
    save_every_s: float,
) -> dict[str, float]:
    """Train to the end, in turns of validate_every steps; gives the losses of the last validation."""
    settings = module.settings
    size, turn = settings.batch_size, min(settings.validate_every, settings.steps)
    draws = EpochDraws(turn * size, batch_size=size)
    loading: dict[str, Any] = {"batch_size": size, "num_workers": 0, "collate_fn": whole_batch}
    validation = DataLoader(material.validation, sampler=range(_VALIDATION_BATCHES * size), **loading)
    trainer = lightning.Trainer(
        max_steps=settings.steps,
        max_epochs=-1,
        callbacks=[Progress(console), KeepState(run / STATE_NAME, draws, identity, every_s=save_every_s)],
        logger=open_logs(run, state),
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        plugins=[WholeFiles()],
        devices=1,
        **quietly(settings.device, settings.precision or "32-true"),
    )
    _make_ready(module)
    trainer.fit(
        module,
        DataLoader(material.training, sampler=draws, **loading),
        validation,
        ckpt_path=state.path if state else None,
        weights_only=True if state else None,
    )
    if settings.steps % turn or "validation_loss" not in trainer.callback_metrics:
        trainer.validate(module, validation, verbose=False)  # else the last step ended a turn, which was validated
    return {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("validation")}


def _open_encoder(folder: Path, settings: RetainSettings) -> tuple[Checkpoint | None, NetworkEncoder | PluggedEncoder]:
    """The start, where it is a checkpoint of this project, and the encoder with its weights."""
    if not settings.trains_device_network:
        return None, open_plugged(settings.encoder, settings.start_from, FeatureSpec())
    if settings.start_from is None:
        raise UsageError(
            "--start-from is missing; expected the checkpoint or run folder of a training, by default that of TFSTgram "
            f"with OS-SCL; make it with python -m train.fit {shlex.quote(str(folder))} --preset {DEFAULT_START} --out "
            "START and give --start-from START"
        )
    start = load_checkpoint(Path(settings.start_from))
    return start, NetworkEncoder(network_for_device(start))


def _write_noise(path: Path, material: Material) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "tag", "side", "group"])
        writer.writerows(
            [clip.file, clip.tag, side, clip.group] for side, clips in material.noise.items() for clip in clips
        )


def _save(
    run: Path, module: RetainModule, material: Material, start: Checkpoint | None, metrics: dict[str, float]
) -> None:
    settings, encoder = module.settings, module.student
    if isinstance(encoder, PluggedEncoder):
        save_plugged(run / ENCODER_NAME, settings.encoder, encoder)
        return
    if start is None or not isinstance(encoder, NetworkEncoder):
        raise TypeError(f"{type(encoder).__name__} has no start; expected a network of train.fit or a plugged encoder")
    names = classes_of_result(start.classes, material.classes)
    n_windows = settings.steps * settings.batch_size
    network = with_mean_embeddings(
        encoder.network,
        material.training,
        names=names,
        machines=material.classes,
        draws_each=min(_MEAN_OF, max(1, n_windows // len(material.classes))),
        feature_spec=start.feature_spec,
    )
    checkpoint = Checkpoint(
        network=network,
        spec=network.spec,
        classes=names,
        feature_spec=start.feature_spec,
        training=settings.as_plain(),
        metrics=metrics,
        split=material.split,
    )
    save_checkpoint(run / CHECKPOINT_NAME, checkpoint)

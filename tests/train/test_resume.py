"""A run that was killed goes on to the weights that it would have had; what it cannot go on with is refused."""

import csv
import dataclasses
import json
import resource
import shlex
import shutil
import signal
import subprocess
import sys

import lightning
import numpy as np
import pytest
import soundfile
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from edge_asd.errors import ClipError, EdgeAsdError, UsageError
from train import fit, keep_checkpoint, run_folder
from train.checkpoint import load_checkpoint
from train.keep_state import STATE_NAME
from train.presets import preset_settings
from train.whole_file import save_whole

SETTINGS = dataclasses.replace(
    preset_settings("logmel-os-scl"), epochs=2, batch_size=2, windows_per_epoch=6, ema_decay=0.5
)

# Runs in a process of its own, which kills itself at a call of a function, counted from 1; its state is saved at each
# step. Arguments: data folder, run folder, preset, module, class or "", function, count.
DYING = """
import dataclasses, importlib, os, signal, sys
from pathlib import Path
import torch
from rich.console import Console
torch.set_num_threads(2)
data, run, preset, module, owner, name, count = sys.argv[1:]
left = int(count)
def dying(function):
    def die_or_go_on(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return die_or_go_on
from train.fit import fit
from train.presets import preset_settings
place = importlib.import_module(module)
place = getattr(place, owner) if owner else place
setattr(place, name, dying(getattr(place, name)))
settings = dataclasses.replace(
    preset_settings(preset), epochs=2, batch_size=2, windows_per_epoch=6,
    ema_decay=0.0 if preset == "mobilenetv2" else 0.5
)
fit(Path(data), Path(run), settings, Console(quiet=True), resume=True, save_every_s=0.0)
"""
STEP = ("train.module", "TrainingModule", "training_step")
VALIDATION = ("train.module", "TrainingModule", "validation_step")
FSYNC = ("os", "", "fsync")
RENAME = ("pathlib", "Path", "replace")
SCORES = ("train.fit", "", "score_streams")


def kill_in(moment, count, data, run, preset="logmel-os-scl"):
    ended = subprocess.run(
        [sys.executable, "-c", DYING, str(data), str(run), preset, *moment, str(count)], check=False, timeout=600
    )
    assert ended.returncode == -signal.SIGKILL


def run_fit(data, run, settings=SETTINGS, **options):
    return fit.fit(data, run, settings, Console(quiet=True), **options)


def assert_same_run(one, two):
    """Weights kept, and every figure of every epoch, to the last bit."""
    first, second = (load_checkpoint(run) for run in (one, two))
    state, other = (checkpoint.network.state_dict() for checkpoint in (first, second))
    assert all(torch.equal(state[name], other[name]) for name in state)
    assert first.metrics == second.metrics
    curves = []
    for run in (one, two):
        with (run / "metrics.csv").open(newline="") as file:
            curves.append([dict(sorted(row.items())) for row in csv.DictReader(file)])
    assert curves[0] == curves[1]
    assert not (two / STATE_NAME).exists()


@pytest.fixture(scope="module")
def whole(module_tones, tmp_path_factory):
    """A run that nothing disturbed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    torch.set_num_threads(2)
    run_fit(module_tones, run)
    return run


@pytest.fixture(scope="module")
def cut_off(module_tones, tmp_path_factory):
    """A run that was killed in the middle of its second epoch, two steps after its last epoch ended."""
    run = tmp_path_factory.mktemp("cut-off") / "run"
    kill_in(STEP, 6, module_tones, run)
    return run


def test_killed_run_goes_on_to_the_same_weights(module_tones, tmp_path, whole, cut_off):
    """Bit by bit, from the middle of an epoch."""
    run = shutil.copytree(cut_off, tmp_path / "run")
    assert torch.load(run / STATE_NAME, weights_only=True)["run"]["batches_done"] == 2
    run_fit(module_tones, run, resume=True)
    assert_same_run(whole, run)


@pytest.mark.parametrize("cut", [(2, True), (3, True), (4, False)])
def test_curves_are_whole_of_a_run_cut_right_after_its_state_was_saved(module_tones, tmp_path, whole, monkeypatch, cut):
    """In the middle of an epoch and at its end, when its row must be there; or its state lost, so that it begins anew.

    cut: after how many savings, and whether the state is kept.
    """
    saved, kept = cut

    class CutError(Exception):
        pass

    def save_and_cut(trainer, path):
        nonlocal saved
        save(trainer, path)
        saved -= 1
        if not saved:
            raise CutError

    save = lightning.Trainer.save_checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(lightning.Trainer, "save_checkpoint", save_and_cut)
        with pytest.raises(CutError):
            run_fit(module_tones, tmp_path / "run", save_every_s=0.0)
    if not kept:
        (tmp_path / "run" / STATE_NAME).unlink()
    run_fit(module_tones, tmp_path / "run", resume=True)
    assert_same_run(whole, tmp_path / "run")
    assert points(tmp_path / "run") == points(whole)


def points(run):
    """What TensorBoard shows of a figure of training and one of validation: (step, value)."""
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [[(one.step, one.value) for one in events.Scalars(name)] for name in ("train_loss", "validation_loss")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kills",
    [
        [(STEP, 1), (STEP, 1), (STEP, 2), (VALIDATION, 1), (FSYNC, 1), (STEP, 2), (VALIDATION, 1), (SCORES, 1)],
        [(FSYNC, 1), (FSYNC, 3), (RENAME, 1), (RENAME, 2), (FSYNC, 4)],
    ],
)
def test_run_killed_again_and_again_ends_the_same(module_tones, tmp_path, whole, kills):
    """In steps, validation, writing, renaming and scoring."""
    for moment, count in kills:
        kill_in(moment, count, module_tones, tmp_path / "run")
    run_fit(module_tones, tmp_path / "run", resume=True)
    assert_same_run(whole, tmp_path / "run")
    assert points(tmp_path / "run") == points(whole)


@pytest.mark.slow
def test_random_generators_go_on_too(module_tones, tmp_path):
    """MobileNetV2 drops units by chance."""
    settings = dataclasses.replace(preset_settings("mobilenetv2"), epochs=2, batch_size=2, windows_per_epoch=6)
    run_fit(module_tones, tmp_path / "whole", settings)
    kill_in(STEP, 5, module_tones, tmp_path / "killed", preset="mobilenetv2")
    run_fit(module_tones, tmp_path / "killed", settings, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_state_knows_the_checkpoint_to_beat(whole, cut_off):
    """The lowest validation loss so far, that of the first epoch."""
    with (whole / "metrics.csv").open(newline="") as file:
        losses = [float(row["validation_loss"]) for row in csv.DictReader(file) if row["validation_loss"]]
    assert torch.load(cut_off / STATE_NAME, weights_only=True)["callbacks"]["KeepCheckpoint"] == {
        "lowest_loss": losses[0]
    }


def test_last_weights_are_kept_if_asked_for(module_tones, tmp_path, whole):
    """Whatever their validation loss is; else those of the lowest, also where the run was cut off between them."""
    run_fit(module_tones, tmp_path / "run", dataclasses.replace(SETTINGS, keep="last"))
    for run, wanted in ((tmp_path / "run", -1), (whole, 0)):
        with (run / "metrics.csv").open(newline="") as file:
            losses = [float(row["validation_loss"]) for row in csv.DictReader(file) if row["validation_loss"]]
        assert losses[0] < losses[-1]
        metrics = load_checkpoint(run).metrics
        assert metrics["epoch"] == range(len(losses))[wanted]
        assert metrics["validation_loss"] == pytest.approx(losses[wanted])


def test_ended_run_is_left_as_it_is(module_tones, whole):
    """So that whoever starts it again after a cut need not know how far it came."""
    before = (whole / "checkpoint.pt").stat().st_mtime_ns
    checkpoint = run_fit(module_tones, whole, resume=True)
    assert checkpoint.metrics["validation_loss"] == load_checkpoint(whole).metrics["validation_loss"]
    assert (whole / "checkpoint.pt").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="seed was 0, now 1"):
        run_fit(module_tones, whole, dataclasses.replace(SETTINGS, seed=1), resume=True)


def test_cut_off_run_is_not_begun_anew_unasked(module_tones, cut_off):
    """It says how far it came and how it goes on."""
    with pytest.raises(UsageError, match=r"cut off after step 5; .* give --resume"):
        run_fit(module_tones, cut_off)


def test_run_of_another_configuration_is_not_gone_on_with(module_tones, cut_off):
    """With each setting that differs."""
    other = dataclasses.replace(SETTINGS, margin=0.5, learning_rate=1e-3)
    with pytest.raises(UsageError, match=r"learning_rate was 0\.0001, now 0\.001, margin was 0\.7, now 0\.5"):
        run_fit(module_tones, cut_off, other, resume=True)


def test_run_whose_clips_changed_is_not_gone_on_with(module_tones, tmp_path, cut_off):
    """The same names with another sound."""
    data = shutil.copytree(module_tones, tmp_path / "data")
    soundfile.write(data / "b_0.wav", 0.1 * np.random.default_rng(0).standard_normal(24_000), 16_000)
    with pytest.raises(UsageError, match="clips that it learns from changed"):
        run_fit(data, cut_off, resume=True)


def test_run_says_what_it_is_made_of_from_its_start_and_wherever_it_goes_on(
    module_tones, tmp_path, cut_off, monkeypatch
):
    """One that was killed has its command and data; what it goes on with stands beside what it began with."""
    run = shutil.copytree(cut_off, tmp_path / "run")
    assert str(module_tones) in shlex.split((run / "command.txt").read_text())
    began = json.loads((run / "environment.json").read_text())
    assert began["folders"] == {"data": str(module_tones)}
    monkeypatch.setattr(run_folder, "git_state", lambda: "another commit")
    run_fit(module_tones, run, resume=True)
    assert json.loads((run / "environment.json").read_text()) == began
    went_on = json.loads((run / "environment-step-5.json").read_text())
    assert went_on["git"] == "another commit"
    assert went_on.keys() == began.keys()


def broken_clip(*_arguments, **_options):
    """In place of the scoring, when a clip turns out broken."""
    raise ClipError("a_bad.wav: it is damaged")


def test_run_goes_on_without_a_test_clip_that_broke(module_tones, tmp_path, whole, monkeypatch):
    """It learns nothing from it: its weights are those of the whole run, and what is there now is scored."""
    data, run = shutil.copytree(module_tones, tmp_path / "data"), tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(fit, "score_streams", broken_clip)
        with pytest.raises(ClipError, match="is damaged"):
            run_fit(data, run, save_every_s=0.0)
    table = (data / "metadata.csv").read_text().splitlines(keepends=True)
    (data / "metadata.csv").write_text("".join(line for line in table if not line.startswith("a_bad")))
    (data / "a_bad.wav").unlink()
    checkpoint = run_fit(data, run, resume=True)
    assert checkpoint.split == dataclasses.replace(load_checkpoint(whole).split, anomaly=())
    assert "a_bad.wav" not in (run / "split.csv").read_text()
    assert not [name for name in checkpoint.metrics if "anomaly" in name]
    state, other = (load_checkpoint(one).network.state_dict() for one in (whole, run))
    assert all(torch.equal(state[name], other[name]) for name in state)


def test_measured_batch_norm_is_kept_whatever_becomes_of_the_scores(module_tones, tmp_path, monkeypatch):
    """It is in the checkpoint before the first clip is scored."""
    settings = dataclasses.replace(SETTINGS, batch_norm="measured")
    run_fit(module_tones, tmp_path / "whole", settings)
    monkeypatch.setattr(fit, "score_streams", broken_clip)
    with pytest.raises(ClipError, match="is damaged"):
        run_fit(module_tones, tmp_path / "run", settings)
    state, other = (load_checkpoint(tmp_path / name).network.state_dict() for name in ("whole", "run"))
    assert all(torch.equal(state[name], other[name]) for name in state)


def test_damaged_state_is_refused(module_tones, tmp_path, cut_off):
    """By its name."""
    run = shutil.copytree(cut_off, tmp_path / "run")
    (run / STATE_NAME).write_bytes((run / STATE_NAME).read_bytes()[:1000])
    with pytest.raises(UsageError, match=r"state\.pt: not a readable state"):
        run_fit(module_tones, run, resume=True)


@pytest.fixture
def small_files():
    """A function after whose call no file may grow beyond 1 MB, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
def test_full_disk_ends_the_run_with_its_last_checkpoint_whole(module_tones, tmp_path, monkeypatch, small_files, whole):
    """It says so, leaves no half file, and goes on once there is room."""
    run = tmp_path / "run"
    save = keep_checkpoint.save_checkpoint

    def fill_the_disk_after_one(path, checkpoint):
        save(path, checkpoint)
        small_files()

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as patched:
        patched.setattr(keep_checkpoint, "save_checkpoint", fill_the_disk_after_one)
        with pytest.raises(EdgeAsdError, match=r"state\.pt: cannot be written: File too large.*; free the disk"):
            run_fit(module_tones, run, save_every_s=0.0)
    assert load_checkpoint(run).metrics["epoch"] == 0
    assert not list(run.glob(".*"))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    run_fit(module_tones, run, resume=True)
    assert_same_run(whole, run)


def test_file_is_as_it_was_or_wholly_new(tmp_path, small_files):
    """When there is no room for the new one, the old one is whole."""
    path = tmp_path / "file.pt"
    save_whole(path, {"old": torch.arange(10)})
    small_files()
    with pytest.raises(EdgeAsdError, match="the one before it is whole"):
        save_whole(path, {"new": torch.zeros(10**6)})
    assert torch.equal(torch.load(path)["old"], torch.arange(10))
    assert [file.name for file in tmp_path.iterdir()] == ["file.pt"]

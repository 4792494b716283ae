"""Retention as a command: what it leaves, that it goes on where it was cut off, what it refuses."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import lightning
import pytest
import torch

from export.windows import find_calibration_clips
from train.checkpoint import load_checkpoint
from train.retain.__main__ import main
from train.retain.module import RetainModule
from train.retain.run import retain
from train.run_folder import hold_run

QUICK = [*("--steps", "2"), *("--warm-up-steps", "1"), *("--batch-size", "2"), *("--validate-every", "2")]


def run_retain(tones, noise, start, out, *more):
    return main([str(tones), "--noise", str(noise), "--start-from", str(start), "--out", str(out), *QUICK, *more])


def told(capsys):
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.timeout(600)  # seconds on a machine of its own
def test_run_leaves_everything_and_a_network_for_devices(tones, noise, start, tmp_path, capsys):
    """A checkpoint of the start's classes and split with other weights, which calibration takes as any other."""
    run = tmp_path / "run"
    assert run_retain(tones, noise, start, run) == 0
    assert capsys.readouterr().out == f"{run / 'checkpoint.pt'}\n"
    checkpoint, before = load_checkpoint(run), load_checkpoint(start)
    assert (checkpoint.classes, checkpoint.split) == (before.classes, before.split)
    assert not torch.equal(checkpoint.network.backbone.stem.conv.weight, before.network.backbone.stem.conv.weight)
    torch.testing.assert_close(checkpoint.network.class_weight.norm(dim=1), torch.ones(4))
    assert [clip.file for clip in find_calibration_clips(tones, checkpoint).calibration] == ["a_2.wav", "b_2.wav"]
    settings = json.loads((run / "settings.json").read_text())
    assert (settings["steps"], settings["start_from"], settings["snr_db"]) == (2, str(start), [0.0, 0.0])
    assert checkpoint.training == settings
    assert json.loads((run / "metrics.json").read_text())["validation_alignment"] >= 0.0
    with (run / "noise.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["tag"], row["side"]) for row in rows} >= {("wind", "train"), ("rain", "train")}
    assert sum(row["side"] == "validation" for row in rows) == 1
    folders = json.loads((run / "environment.json").read_text())["folders"]
    assert folders == {"data": str(tones), "noise": str(noise)}
    files = {path.name for path in run.iterdir()}
    assert {"command.txt", "environment.json", "metrics.csv", "split.csv", "tensorboard"} <= files


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("layer", ["embedding", "feature_map"])
def test_compiled_run_ends_near_the_uncompiled_one(tones, noise, start, tmp_path, layer):
    """Student and teacher, which hears twice as many windows; validation is not compiled."""
    for name, more in (("plain", "--no-compile"), ("compiled", "--compile")):
        assert run_retain(tones, noise, start, tmp_path / name, "--precision", "32-true", "--layer", layer, more) == 0
    plain, compiled = (load_checkpoint(tmp_path / name) for name in ("plain", "compiled"))
    assert compiled.training["compile"] is True
    for name in ("validation_tagging", "validation_alignment"):
        assert compiled.metrics[name] == pytest.approx(plain.metrics[name], rel=0.02)


def test_missing_start_is_refused(tones, noise, tmp_path, capsys):
    """With what was expected."""
    assert main([str(tones), "--noise", str(noise), "--out", str(tmp_path / "run"), *QUICK]) == 2
    message = told(capsys)
    assert "--start-from is missing; expected the checkpoint or run folder" in message
    assert f"python -m train.fit {tones} --preset tfstgram-os-scl --out START and give --start-from START" in message


def test_option_of_no_use_to_the_baseline_is_refused(tones, noise, start, tmp_path, capsys):
    """It would change nothing."""
    more = ("--objective", "denoise", "--align-weight", "2")
    assert run_retain(tones, noise, start, tmp_path / "run", *more) == 2
    assert "--align-weight is given, of which --objective denoise has no use" in told(capsys)


LEVELS = """
import torch
from train.retain.encoders import register_encoder

class Levels(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(128, 6)

    def forward(self, wave, log_mel):
        return self.linear(log_mel.mean(dim=2))

register_encoder("levels", embedding_size=6, make=lambda start: Levels())
"""


@pytest.fixture
def levels(tmp_path, monkeypatch):
    """Options that name an encoder from elsewhere, which trains in no time."""
    (tmp_path / "levels_of_a_user.py").write_text(LEVELS)
    monkeypatch.syspath_prepend(tmp_path)
    return ["--encoder", "levels", "--import", "levels_of_a_user"]


def test_plugged_encoder_is_trained_and_left_as_its_own_file(tones, noise, levels, tmp_path, capsys):
    """No device runs it."""
    command = [str(tones), "--noise", str(noise), "--out", str(tmp_path / "run"), *QUICK, *levels]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'run' / 'encoder.pt'}\n"
    content = torch.load(tmp_path / "run" / "encoder.pt", weights_only=True)
    assert (content["encoder"], content["embedding_size"]) == ("levels", 6)
    assert set(content["state"]) == {"linear.weight", "linear.bias"}
    assert main([*command, "--import", "not_there"]) == 2
    assert "--import not_there: No module named" in told(capsys)


def test_module_that_fails_as_it_is_imported_is_told(tones, noise, tmp_path, monkeypatch, capsys):
    """Whatever it raises, with the line."""
    (tmp_path / "failing_of_a_user.py").write_text("import torch\n\nraise RuntimeError('no weights here')\n")
    monkeypatch.syspath_prepend(tmp_path)
    command = [str(tones), "--noise", str(noise), "--out", str(tmp_path / "run"), *QUICK]
    assert main([*command, "--import", "failing_of_a_user"]) == 2
    message = told(capsys)
    assert "--import failing_of_a_user: RuntimeError: no weights here" in message
    assert "failing_of_a_user.py line 3); expected a Python module that can be imported" in message


class CutError(Exception):
    """Ends a run as a power cut would, as far as its files go."""


@pytest.mark.timeout(600)
def test_run_that_was_cut_off_goes_on_to_the_same_end(tones, noise, levels, tmp_path, monkeypatch):
    """Bit for bit, from the middle of a turn, with curves that have no gap; then it is left as it is.

    It is cut right after its state was saved, when the row of that step must be there.
    """
    command = [str(tones), "--noise", str(noise), *QUICK, *levels, "--steps", "7", "--validate-every", "3"]
    assert main([*command, "--out", str(tmp_path / "whole")]) == 0
    monkeypatch.setattr("train.retain.run.retain.__kwdefaults__", retain.__kwdefaults__ | {"save_every_s": 0.0})
    save = lightning.Trainer.save_checkpoint

    def save_and_cut_at_5(trainer, path):
        save(trainer, path)
        if trainer.global_step == 5:
            raise CutError

    with monkeypatch.context() as patch:
        patch.setattr(lightning.Trainer, "save_checkpoint", save_and_cut_at_5)
        with pytest.raises(CutError):
            main([*command, "--out", str(tmp_path / "cut")])
    assert main([*command, "--out", str(tmp_path / "cut")]) == 2  # not without being told to
    for _ in range(2):
        assert main([*command, "--out", str(tmp_path / "cut"), "--resume"]) == 0
    whole, cut = (torch.load(tmp_path / name / "encoder.pt", weights_only=True)["state"] for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert [curves(tmp_path / name) for name in ("cut", "cut")] == [curves(tmp_path / "whole")] * 2


def curves(run):
    with (run / "metrics.csv").open() as file:
        return [(row["step"], row["train_loss"], row["validation_loss"]) for row in csv.DictReader(file)]


def test_run_of_another_configuration_is_not_gone_on_with(tones, noise, levels, tmp_path, capsys):
    """The settings that differ are named; nor is a run that ended written over."""
    command = [str(tones), "--noise", str(noise), *QUICK, *levels, "--out", str(tmp_path / "run")]
    assert main(command) == 0
    assert main(command) == 2
    assert "holds a run already" in told(capsys)
    assert main([*command, "--resume", "--align-weight", "2"]) == 2
    assert "another configuration: align_weight was 0.1, now 2.0" in told(capsys)


def test_run_with_other_tags_is_not_gone_on_with(tones, noise, levels, tmp_path, monkeypatch):
    """What it learnt of the noise so far would have other names."""
    files = [f"{tag}/{number}.wav" for tag in ("wind", "rain") for number in range(5)]

    def write_tags(*tags):
        rows = [f"{file},{tags[file < 'w']}" for file in files]
        (noise / "metadata.csv").write_text("\n".join(["file,tag", *rows]) + "\n")

    write_tags("one", "other")
    monkeypatch.setattr("train.retain.run.retain.__kwdefaults__", retain.__kwdefaults__ | {"save_every_s": 0.0})

    def cut(_module, _batch, _index):
        raise CutError

    command = [str(tones), "--noise", str(noise), *QUICK, *levels, "--out", str(tmp_path / "run"), "--steps", "4"]
    with monkeypatch.context() as patch:
        patch.setattr(RetainModule, "validation_step", cut)
        with pytest.raises(CutError):
            main(command)
    write_tags("other", "one")
    assert main([*command, "--resume"]) == 2
    write_tags("one", "other")
    assert main([*command, "--resume"]) == 0


def test_stopped_run_says_so_and_ends_with_the_code_of_its_signal(tones, noise, levels, tmp_path):
    """As train.fit does. In a process of its own, which the signal may end."""
    run, root = tmp_path / "run", Path(__file__).resolve().parents[3]
    options = ["--noise", str(noise), *QUICK, *levels, "--steps", "100000", "--out", str(run)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(tmp_path)])}
    command = [sys.executable, "-m", "train.retain", str(tones), *options]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while not (run / "metrics.csv").exists() or not (run / "metrics.csv").read_text():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "stopped before a state was kept: --resume begins anew" in " ".join(said.split())
    assert "Traceback" not in said
    assert not (run / "encoder.pt").exists()


def test_run_folder_is_held_by_one_process(tones, noise, levels, tmp_path, capsys):
    """The second one may try again later."""
    run = tmp_path / "run"
    with hold_run(run):
        assert main([str(tones), "--noise", str(noise), *QUICK, *levels, "--out", str(run)]) == 75
    assert "another process trains into it" in told(capsys)
    assert list(run.iterdir()) == []

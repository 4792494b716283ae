"""A run trains, leaves what it promises, repeats by its seed, and refuses what cannot be trained on."""

import argparse
import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from edge_asd.errors import EdgeAsdError
from train import evaluate, fit
from train.averaging import ema
from train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from train.network import Network, NetworkSpec
from train.plan import Plan
from train.presets import PRESETS
from train.run_folder import hold_run
from train.settings import AugmentSettings, TrainingSettings
from train.settings_options import add_settings, settings_from

QUICK = ["--epochs", "2", "--batch-size", "4", "--windows-per-epoch", "4", "--preset", "logmel-os-scl"]


def run_fit(data, out, *more):
    return fit.main([str(data), "--out", str(out), *QUICK, *more])


def test_run_leaves_everything_and_scores_what_it_held_out(tones, tmp_path, capsys):
    """Settings, classes, split, metrics, scores and a checkpoint that loads."""
    run = tmp_path / "run"
    assert run_fit(tones, run, "--altered-share", "0.4", "--join-pieces", "2") == 0
    assert capsys.readouterr().out == f"{run / 'checkpoint.pt'}\n"
    checkpoint = load_checkpoint(run)
    assert checkpoint.classes == ("tone/a", "tone/b", "tone/a~altered", "tone/b~altered")
    assert json.loads((run / "classes.json").read_text()) == ["tone/a", "tone/b"]
    assert json.loads((run / "settings.json").read_text())["augment"]["join_pieces"] == 2
    assert checkpoint.training["epochs"] == 2
    assert checkpoint.split.anomaly == ("a_bad.wav",)
    with (run / "split.csv").open() as file:
        sides = [line["side"] for line in csv.DictReader(file)]
    assert sorted(sides) == ["anomaly"] + ["held_out"] * 2 + ["train"] * 4 + ["validation"] * 2
    assert np.isfinite(checkpoint.metrics["tone/a held_out highest score"])
    assert json.loads((run / "environment.json").read_text())["packages"]["torch"] == torch.__version__
    assert {"train_loss", "train_supcon", "validation_loss", "learning_rate"} <= _logged_scalars(run / "tensorboard")
    assert {"command.txt", "metrics.csv", "metrics.json", "scores.csv"} <= {path.name for path in run.iterdir()}
    assert evaluate.main([str(run), str(tones), "--out", str(tmp_path / "report")]) == 0
    evaluated = json.loads((tmp_path / "report" / "metrics.json").read_text())["runs"]["run"]
    assert evaluated[0]["figures"]["auc"]["value"] == pytest.approx(checkpoint.metrics["tone/a AUC"])


def _logged_scalars(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return set(events.Tags()["scalars"])


def test_dry_run_prints_the_plan_and_writes_nothing(tones, tmp_path, monkeypatch, capsys):
    """Clips of every side, steps of all epochs, memory and time."""
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    assert fit.main([str(tones), "--dry-run", *QUICK, "--epochs", "7"]) == 0
    printed = capsys.readouterr().out
    assert "7 epochs of 1 steps of 4 windows: 7\n" in printed
    assert ["all", "4", "2", "2", "1"] in [line.split()[1::2] for line in printed.splitlines()]
    assert "GB at its peak" in printed
    assert sorted(tmp_path.rglob("*")) == before


def test_quick_try_scores_no_more_clips_than_its_limit(tones, tmp_path, write_metadata):
    """Also of those that the data gives to the test."""
    lines = [[f"{m}_{n}.wav", "tone", m, "normal", "none", f"{m}_{n}"] for m in "ab" for n in range(3)]
    for name in ("more_0.wav", "more_1.wav", "more_2.wav", "more_3.wav"):
        (tones / name).write_bytes((tones / "a_3.wav").read_bytes())
        lines.append([name, "tone", "a", "anomaly", "test", name])
    write_metadata(tones, lines)
    run = tmp_path / "run"
    assert run_fit(tones, run, "--limit", "3") == 0
    assert load_checkpoint(run).split.anomaly == ("more_0.wav", "more_1.wav", "more_2.wav")


def test_estimated_time_is_that_of_all_steps():
    """Of the rehearsed ones, the first is not counted."""
    plan = Plan(
        contrastive_epochs=0,
        clips={},
        n_parameters=1,
        epochs=3,
        steps_per_epoch=5,
        batch_size=2,
        step_s=0.5,
        peak_memory_bytes=10**9,
    )
    assert (plan.n_steps, plan.training_s) == (15, 7.5)


def test_same_seed_gives_the_same_weights(tones, tmp_path):
    """On the CPU, with all chance in use."""
    augment = ("--speed-share", "0.1", "--gain-db", "3", "--noise-snr-db", "20", "--altered-share", "0.3")
    for name in ("one", "two"):
        assert run_fit(tones, tmp_path / name, *augment) == 0
    one, two = (load_checkpoint(tmp_path / name).network.state_dict() for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_last_weights_must_be_validated(tones, tmp_path, capsys):
    """Else those kept would be of an earlier epoch."""
    assert run_fit(tones, tmp_path / "run", "--keep", "last", "--epochs", "3", "--validate-every", "2") == 2
    assert "--validate-every is 2; expected a divisor of the 3 epochs" in " ".join(capsys.readouterr().err.split())


def test_measured_batch_norm_is_all_that_differs(tones, tmp_path):
    """Weights are trained alike; its statistics are not those of the training."""
    for name in ("averaged", "measured"):
        assert run_fit(tones, tmp_path / name, "--batch-norm", name) == 0
    averaged, measured = (load_checkpoint(tmp_path / name).network.state_dict() for name in ("averaged", "measured"))
    differing = {name.rpartition(".")[2] for name in averaged if not torch.equal(averaged[name], measured[name])}
    assert differing - {"num_batches_tracked"} == {"running_mean", "running_var"}


def test_whole_network_takes_a_step(tones, tmp_path):
    """The default preset, with the wave branches and their gathers under EMA."""
    arguments = [str(tones), "--out", str(tmp_path / "run"), "--epochs", "2", "--batch-size", "2"]
    assert fit.main([*arguments, "--windows-per-epoch", "2", "--ema-decay", "0.9"]) == 0
    network = load_checkpoint(tmp_path / "run").network
    assert torch.equal(network.tfgram.block2.pool.index, Network(network.spec).tfgram.block2.pool.index)


@pytest.mark.slow
def test_compiled_run_ends_near_the_uncompiled_one(tones, tmp_path):
    """Compiling changes the speed and the last digits, and leaves the names in the checkpoint as they are."""
    assert run_fit(tones, tmp_path / "plain") == 0
    assert run_fit(tones, tmp_path / "compiled", "--compile") == 0
    plain, compiled = (load_checkpoint(tmp_path / name) for name in ("plain", "compiled"))
    assert plain.metrics["validation_loss"] == pytest.approx(compiled.metrics["validation_loss"], rel=0.01)


def test_run_goes_on_from_an_earlier_one(tones, tmp_path):
    """With so low a learning rate that its weights are still to be seen."""
    assert run_fit(tones, tmp_path / "first") == 0
    slow = ("--learning-rate", "1e-9", "--final-learning-rate", "1e-9", "--weight-decay", "0")
    assert run_fit(tones, tmp_path / "second", "--start-from", str(tmp_path / "first"), *slow) == 0
    first, second = (load_checkpoint(tmp_path / name).network for name in ("first", "second"))
    torch.testing.assert_close(second.class_weight, first.class_weight, atol=1e-6, rtol=0)


def test_start_that_saw_what_is_held_out_is_refused(tones, tmp_path, capsys):
    """Another seed gives another split."""
    assert run_fit(tones, tmp_path / "first") == 0
    capsys.readouterr()
    assert run_fit(tones, tmp_path / "second", "--start-from", str(tmp_path / "first"), "--seed", "1") == 2
    assert "recordings that this run holds out" in " ".join(capsys.readouterr().err.split())


def test_run_folder_in_use_is_refused(tones, tmp_path, capsys):
    """A checkpoint is never overwritten."""
    save_small_checkpoint(tmp_path / "checkpoint.pt")
    assert run_fit(tones, tmp_path) == 2
    assert "holds a run already" in " ".join(capsys.readouterr().err.split())


def test_unwritable_run_folder_is_refused_before_training(tones, tmp_path, capsys):
    """Here a file stands in the way."""
    (tmp_path / "file").write_text("")
    assert run_fit(tones, tmp_path / "file" / "run") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_empty_folder_is_refused(tmp_path, capsys):
    """With the layout that was expected."""
    assert run_fit(tmp_path, tmp_path / "run") == 2
    assert "no metadata.csv there and no clip" in " ".join(capsys.readouterr().err.split())


def test_nan_clip_is_refused(tones, tmp_path, capsys):
    """By its name, with the exit code of an unusable clip."""
    soundfile.write(tones / "a_1.wav", np.full(24_000, np.nan, dtype=np.float32), 16_000, subtype="FLOAT")
    assert run_fit(tones, tmp_path / "run") == 65
    assert "a_1.wav" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [("--batch-size", "1"), ("--epochs", "0"), ("--validation-share", "0.7"), ("--join-pieces", "0"), ("--limit", "2")],
)
def test_impossible_setting_is_refused(tones, tmp_path, capsys, option, value):
    """With its name and value."""
    assert run_fit(tones, tmp_path / "run", option, value) == 2
    assert f"{option} is {value}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--weight-decay", value) for value in ("-1.0", "nan", "inf")),
        *(("--seed", value) for value in ("-1", "99999999999")),
        *((f"--{name}", "inf") for name in ("learning-rate", "mixup-alpha", "scale", "supcon-temperature")),
        *((f"--{name}", "nan") for name in ("final-learning-rate", "noise-snr-db", "margin", "gain-db")),
    ],
)
def test_number_that_no_training_bears_is_refused(tones, tmp_path, capsys, option, value):
    """Before anything is read."""
    assert run_fit(tones, tmp_path / "run", f"{option}={value}") == 2
    assert f"{option} is {value}" in capsys.readouterr().err


def test_a_quick_try_is_one_of_both_stages():
    """Fewer epochs than the preset's bound the first stage too, unless it is given."""
    parser = argparse.ArgumentParser()
    add_settings(parser)

    def epochs(*options):
        settings = settings_from(parser.parse_args(["--preset", "clp-scf", *options]))
        return settings.contrastive_epochs, settings.epochs

    assert epochs() == (100, 300)
    assert epochs("--epochs", "1") == (1, 1)
    assert epochs("--epochs", "200") == (100, 200)
    assert epochs("--epochs", "1", "--contrastive-epochs", "5") == (5, 1)


def test_ema_decay_follows_the_number_of_steps():
    """Up to the paper's, which a stated decay overrules."""
    assert TrainingSettings().ema_decay_for(200) == pytest.approx(0.95)
    assert TrainingSettings().ema_decay_for(49_999) == pytest.approx(0.9998)
    assert TrainingSettings().ema_decay_for(50_000) == TrainingSettings().ema_decay_for(10**7) == 0.9999
    assert TrainingSettings().ema_decay_for(2) == 0.0
    assert TrainingSettings(ema_decay=0.5).ema_decay_for(200) == 0.5


@pytest.mark.parametrize("preset", [name for name in PRESETS if "os-scl" not in name])
def test_preset_trains_and_scores(tones, tmp_path, preset):
    """Of the rivals, with a checkpoint that says its network and is scored as any other."""
    run = tmp_path / "run"
    small = ["--epochs", "1", "--batch-size", "2", "--windows-per-epoch", "2"]
    two_stages = PRESETS[preset].contrastive_epochs > 0
    small += ["--contrastive-epochs", "1"] if two_stages else []
    assert fit.main([str(tones), "--out", str(run), "--preset", preset, *small]) == 0
    checkpoint = load_checkpoint(run)
    assert checkpoint.training["preset"] == preset
    assert checkpoint.training["batch_size"] == 2
    assert np.isfinite(checkpoint.metrics["tone/a held_out highest score"])
    assert checkpoint.metrics["epoch"] == float(two_stages)  # never one of the first stage


@pytest.mark.parametrize("preset", ["ae", "idnn", "mobilenetv2"])
def test_option_of_no_use_to_a_baseline_is_refused(tones, tmp_path, capsys, preset):
    """It would change nothing."""
    assert fit.main([str(tones), "--out", str(tmp_path / "run"), "--preset", preset, "--margin", "0.5"]) == 2
    assert f"--margin is given, of which preset {preset} has no use" in " ".join(capsys.readouterr().err.split())


def test_supcon_alone_scores_by_class_means(tones, tmp_path):
    """Class weights, which it does not train, leave their first values."""
    run = tmp_path / "run"
    assert run_fit(tones, run, "--loss", "supcon", "--ema-decay", "0", "--mixup-alpha", "none") == 0
    weight = load_checkpoint(run).network.class_weight
    torch.testing.assert_close(weight.norm(dim=1), torch.ones(2))


def test_learning_rate_is_constant_then_a_cosine():
    """From the first to the final one, over the epochs of the second stage."""
    settings = TrainingSettings(epochs=4, contrastive_epochs=2)
    rates = [settings.learning_rate_at(epoch) for epoch in range(7)]
    assert rates[:2] == [5e-4, 5e-4]
    assert rates[2:] == pytest.approx([1e-4, 8.682e-5, 5.5e-5, 2.318e-5, 1e-5], rel=1e-3)


def test_options_change_single_settings_of_a_preset():
    """And leave the others."""
    parser = argparse.ArgumentParser()
    add_settings(parser)
    network = ["--branches", "tgram+log_mel+tagram", "--head-reduction", "16"]
    rest = ["--preset", "stgram-arcface", "--mixup-alpha", "0.2", "--gain-db", "3"]
    settings = settings_from(parser.parse_args([*network, *rest]))
    assert settings == dataclasses.replace(
        PRESETS["stgram-arcface"],
        branches=("log_mel", "tgram", "tagram"),
        head_reduction=16,
        mixup_alpha=0.2,
        augment=AugmentSettings(gain_db=3.0),
    )
    assert settings_from(parser.parse_args(["--ema-decay", "auto", "--head-reduction", "none"])).head_reduction is None


@pytest.mark.parametrize(("extra_decay", "kept"), [(0.0, 1.0), (0.01, 0.99)])
def test_ema_averages_floats_and_copies_whole_numbers(extra_decay, kept):
    """A gather's index must not drift; the extra decay of the public code shrinks floats alone."""
    average = ema(0.9, extra_decay)
    floats, numbers = [torch.tensor(1.0), torch.tensor([0.0, 3.0])], [torch.tensor([7])]
    average(floats, [torch.tensor(2.0), torch.tensor([1.0, 3.0])], 1)
    torch.testing.assert_close(floats, [torch.tensor(1.1 * kept), torch.tensor([0.1, 3.0]) * kept])
    average(numbers, [torch.tensor([8])], 1)
    assert numbers[0].tolist() == [8]


def save_small_checkpoint(path):
    spec = NetworkSpec(branches=("log_mel",), n_classes=2)
    save_checkpoint(path, Checkpoint(network=Network(spec), spec=spec, classes=("t/a", "t/b")))


def test_truncated_checkpoint_is_refused(tmp_path):
    """With its name."""
    path = tmp_path / "checkpoint.pt"
    save_small_checkpoint(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(EdgeAsdError, match=r"checkpoint\.pt: not a readable checkpoint"):
        load_checkpoint(tmp_path)


def test_checkpoint_lacking_a_weight_names_it(tmp_path):
    """And one too many."""
    path = tmp_path / "checkpoint.pt"
    save_small_checkpoint(path)
    content = torch.load(path, weights_only=True)
    content["state"]["surprise"] = content["state"].pop("class_weight")
    torch.save(content, path)
    with pytest.raises(EdgeAsdError, match="missing: class_weight; extra: surprise"):
        load_checkpoint(path)


def test_absent_checkpoint_is_refused(tmp_path):
    """With what was expected."""
    with pytest.raises(EdgeAsdError, match="no checkpoint there"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("content", [b"", b"some text\n", b"RIFF\x24\x00\x00\x00WAVEfmt ", bytes(100)])
def test_file_of_another_kind_is_no_checkpoint(tmp_path, content):
    """It is told in words of our own: torch's advise to read it unsafely."""
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(EdgeAsdError, match="not a readable checkpoint") as raised:
        load_checkpoint(tmp_path)
    assert "weights_only" not in str(raised.value)


@pytest.mark.parametrize(
    ("entry", "value", "said"),
    [
        ("spec", ["log_mel"], "incomplete or foreign"),
        ("split", "train", "incomplete or foreign"),
        ("training", 3, "incomplete or foreign"),
        ("state", [1.0], "incomplete or foreign"),
        ("state", {"class_weight": "heavy"}, "class_weight among its weights is no tensor"),
        ("classes", ["t/a"], "1 class names for a network of 2"),
        ("classes", [0, 1], "2 class names for a network of 2"),
    ],
)
def test_checkpoint_with_foreign_content_is_refused(tmp_path, entry, value, said):
    """By its name, before anything is scored."""
    path = tmp_path / "checkpoint.pt"
    save_small_checkpoint(path)
    torch.save(torch.load(path, weights_only=True) | {entry: value}, path)
    with pytest.raises(EdgeAsdError, match=rf"checkpoint\.pt: .*{said}"):
        load_checkpoint(path)


@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_folder_of_something_else_is_left_as_it_is(tones, capsys, more):
    """Here the data folder with curves of its own."""
    (tones / "metrics.csv").write_text("mine")
    assert run_fit(tones, tones, *more) == 2
    assert "expected a new or empty folder" in capsys.readouterr().err
    assert (tones / "metrics.csv").read_text() == "mine"


def test_run_folder_is_held_by_one_process(tones, tmp_path, capsys):
    """The second one may try again later."""
    run = tmp_path / "run"
    with hold_run(run):
        assert run_fit(tones, run) == 75
    assert "another process trains into it" in " ".join(capsys.readouterr().err.split())
    assert list(run.iterdir()) == []


def test_command_that_cannot_be_written_is_said(tones, tmp_path, monkeypatch, capsys):
    """Before the first step, not after the last."""
    run = tmp_path / "run"
    write = Path.write_text

    def full(path, *arguments, **options):
        if path.name == "command.txt":
            raise OSError(28, "No space left on device")
        return write(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", full)
    assert run_fit(tones, run) == 70
    assert "command.txt: cannot be written: No space left" in " ".join(capsys.readouterr().err.split())
    assert not (run / "checkpoint.pt").exists()


def test_dry_run_takes_the_folder_of_the_run_too(tones, tmp_path):
    """So that one word is added to the command; without either it is said."""
    assert run_fit(tones, tmp_path / "run", "--dry-run") == 0
    assert not (tmp_path / "run").exists()
    with pytest.raises(SystemExit) as ended:
        fit.main([str(tones)])
    assert ended.value.code == 2

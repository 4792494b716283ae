"""Retention as a command: what it leaves, that it repeats and goes on, what its result is worth, what it refuses."""

import csv
import json

import numpy as np
import pytest
import soundfile
import torch

from edge_asd.errors import UsageError
from edge_asd.types import FeatureSpec
from export.windows import find_calibration_clips
from train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from train.data import Split
from train.features import LogMel
from train.network import Network, NetworkSpec
from train.retain.__main__ import main
from train.retain.class_weights import classes_of_result, with_mean_embeddings
from train.retain.material import gather
from train.retain.module import RetainModule
from train.retain.run import retain
from train.retain.settings import RetainSettings

N_SAMPLES = 160_000
QUICK = [
    "--steps",
    "2",
    "--warm-up-steps",
    "1",
    "--batch-size",
    "2",
    "--validate-every",
    "2",
    "--learning-rate",
    "1e-3",
]
SMALL = RetainSettings(batch_size=4, steps=2, warm_up_steps=0)
SPLIT = Split(
    train=("a_0.wav", "a_1.wav", "b_0.wav", "b_1.wav"),
    validation=("a_2.wav", "b_2.wav"),
    held_out=("a_3.wav", "b_3.wav"),
    anomaly=("a_bad.wav",),
)
CLASSES = ("tone/a", "tone/b", "tone/a~altered", "tone/b~altered")


def start_of(folder, split=SPLIT, classes=CLASSES):
    torch.manual_seed(0)
    spec = NetworkSpec(branches=("log_mel",), n_classes=len(classes))
    folder.mkdir()
    start = Checkpoint(network=Network(spec).eval(), spec=spec, classes=classes, split=split)
    save_checkpoint(folder / "checkpoint.pt", start)
    return folder


@pytest.fixture
def start(tmp_path):
    """The run folder of a network of the tones, with weights by chance."""
    return start_of(tmp_path / "start")


@pytest.fixture
def noise(tmp_path):
    """A folder of five clips each of wind and rain, in folders of these names."""
    rng = np.random.default_rng(1)
    for tag in ("wind", "rain"):
        (tmp_path / "noise" / tag).mkdir(parents=True)
        for number in range(5):
            wave = 0.02 * rng.standard_normal(24_000)
            soundfile.write(tmp_path / "noise" / tag / f"{number}.wav", wave, 16_000)
    return tmp_path / "noise"


def run_retain(tones, noise, start, out, *more):
    return main([str(tones), "--noise", str(noise), "--start-from", str(start), "--out", str(out), *QUICK, *more])


def told(capsys):
    return " ".join(capsys.readouterr().err.split())


def test_run_leaves_everything_and_a_network_for_devices(tones, noise, start, tmp_path, capsys):
    """A checkpoint of the start's classes and split with other weights, which calibration takes as any other."""
    run = tmp_path / "run"
    assert run_retain(tones, noise, start, run) == 0
    assert capsys.readouterr().out == f"{run / 'checkpoint.pt'}\n"
    checkpoint, before = load_checkpoint(run), load_checkpoint(start)
    assert (checkpoint.classes, checkpoint.split) == (CLASSES, SPLIT)
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
    files = {path.name for path in run.iterdir()}
    assert {"command.txt", "environment.json", "metrics.csv", "split.csv", "tensorboard"} <= files


def test_class_weights_are_the_mean_embeddings_of_their_mixtures(tones, noise):
    """Of machines that the start does not know, and with altered twins, so that the margin score holds."""
    torch.manual_seed(0)
    network = Network(NetworkSpec(branches=("log_mel",), n_classes=3)).eval()
    drawn = gathered(tones, noise).training
    names, machines = ("tone/b", "tone/a", "tone/b~altered", "tone/a~altered"), ("tone/a", "tone/b")
    found = with_mean_embeddings(
        network, drawn, names=names, machines=machines, draws_each=2, feature_spec=FeatureSpec()
    )
    batch = drawn.__getitems__(range(4))
    with torch.inference_mode():
        embedding, _ = network(batch.mixture, LogMel()(batch.mixture))
    for label, place in ((0, 1), (1, 0)):
        mean = torch.nn.functional.normalize(embedding[batch.machine == label].sum(dim=0), dim=0)
        torch.testing.assert_close(found.class_weight[place], mean, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found.class_weight.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(found.backbone.stem.conv.weight, network.backbone.stem.conv.weight)


def test_classes_of_the_result_are_the_start_s_where_these_are_its_machines():
    """Altered twins included; other machines are classes of their own."""
    start = ("t/b", "t/a", "t/b~altered", "t/a~altered")
    assert classes_of_result(start, ("t/a", "t/b")) == start
    assert classes_of_result(start, ("t/a", "t/c")) == ("t/a", "t/c")


def test_missing_start_is_refused(tones, noise, tmp_path, capsys):
    """With what was expected."""
    assert main([str(tones), "--noise", str(noise), "--out", str(tmp_path / "run"), *QUICK]) == 2
    assert "--start-from is missing; expected the checkpoint or run folder" in told(capsys)


def test_option_of_no_use_to_the_baseline_is_refused(tones, noise, start, tmp_path, capsys):
    """It would change nothing."""
    more = ("--objective", "denoise", "--align-weight", "2")
    assert run_retain(tones, noise, start, tmp_path / "run", *more) == 2
    assert "--align-weight is given, of which --objective denoise has no use" in told(capsys)


def gathered(tones, noise, settings=SMALL, **more):
    return gather(tones, noise, settings, n_samples=N_SAMPLES, **{"start": None, **more})


def test_noise_recordings_are_on_one_side(tones, noise):
    """By their groups in metadata.csv, whose tags count."""
    files = [f"{tag}/{number}.wav" for tag in ("wind", "rain") for number in range(5)]
    rows = [f"{file},{'low' if 'wind' in file else 'high'},{number // 2}" for number, file in enumerate(files)]
    (noise / "metadata.csv").write_text("\n".join(["file,tag,group", *rows]) + "\n")
    material = gathered(tones, noise)
    assert material.tags == ("high", "low")
    assert len(material.noise["validation"]) == 2
    assert not {clip.group for clip in material.noise["train"]} & {clip.group for clip in material.noise["validation"]}


def test_silent_noise_is_refused(tones, noise):
    """It cannot be at any ratio."""
    soundfile.write(noise / "rain" / "7.wav", np.full(16_000, 1e-5), 16_000)
    with pytest.raises(UsageError, match=r"1 noise clips are silent, below -80 dB of full scale: rain/7.wav"):
        gathered(tones, noise)


def test_silent_stretches_of_noise_are_never_drawn(tones, noise):
    """A clip of ten seconds of silence and then rain is rain alone."""
    rng = np.random.default_rng(2)
    for path in noise.rglob("*.wav"):
        soundfile.write(path, np.concatenate([np.zeros(N_SAMPLES), 0.02 * rng.standard_normal(8_000)]), 16_000)
    noise_drawn = gathered(tones, noise).training.__getitems__(range(18)).noise
    assert torch.isfinite(noise_drawn).all()
    assert (noise_drawn.std(dim=1) > 1e-3).all()


def test_too_few_noise_clips_are_refused(tones, noise):
    """A batch would hold the same noise twice."""
    with pytest.raises(UsageError, match="9 clips of noise to train with; expected at least 10"):
        gathered(tones, noise, RetainSettings(batch_size=10, steps=2, warm_up_steps=0))


def test_one_noise_recording_is_refused(tones, noise):
    """None is left to validate with."""
    for path in list(noise.rglob("*.wav"))[1:]:
        path.unlink()
    with pytest.raises(UsageError, match="1 recording of noise; expected 2 or more"):
        gathered(tones, noise)


@pytest.mark.parametrize("where", ["machines", "noise"])
def test_noise_shared_with_the_test_is_refused(tones, noise, tmp_path, where):
    """Known by its samples, under another name and in another format."""
    if where == "machines":
        wave, _ = soundfile.read(tones / "a_bad.wav", dtype="int16")
        soundfile.write(noise / "wind" / "new.flac", wave, 16_000)
        message, more = r"1 noise clips have the same sound as test clips of .*tones: wind/new.flac", {}
    else:
        wave, _ = soundfile.read(noise / "wind" / "3.wav", dtype="int16")
        soundfile.write(tmp_path / "tested.flac", wave, 16_000)
        tested = tmp_path / "tested"
        tested.mkdir()
        (tmp_path / "tested.flac").rename(tested / "tested.flac")
        message, more = (
            r"1 noise clips have the same sound as test noise in .*tested: wind/3.wav",
            {"test_noise": [tested]},
        )
    with pytest.raises(UsageError, match=message):
        gathered(tones, noise, **more)


def test_ratio_that_clips_is_refused_with_the_gain_that_leaves_room(tones, noise):
    """And that gain is enough."""
    settings = {"batch_size": 4, "steps": 2, "warm_up_steps": 0, "snr_db": (-10.0, 0.0)}
    with pytest.raises(UsageError, match=r"--snr-db -10: \d+ of \d+ pairs .* may pass full scale, by up to") as refused:
        gathered(tones, noise, RetainSettings(**settings))
    gain_db = float(str(refused.value).split("--gain-db ")[1].split()[0])
    material = gathered(tones, noise, RetainSettings(**settings, gain_db=gain_db))
    assert material.training.__getitems__(range(18)).mixture.abs().max() <= 1.0


def test_start_that_learnt_from_the_test_is_refused(tones, noise, tmp_path, write_metadata):
    """Its figures would be too good."""
    lines = [
        [f"{m}_{n}.wav", "tone", m, "normal", "test" if n == 1 else "none", f"{m}_{n}"] for m in "ab" for n in range(4)
    ]
    write_metadata(tones, lines)
    start = load_checkpoint(start_of(tmp_path / "start"))
    with pytest.raises(UsageError, match=r"trained on 2 clips that .*tones gives to the test \(a_1.wav, b_1.wav\)"):
        gathered(tones, noise, start=start)


def test_start_whose_clips_are_half_there_is_refused(tones, noise, tmp_path, write_metadata):
    """One machine alone tells nothing apart."""
    write_metadata(tones, [[f"a_{n}.wav", "tone", "a", "normal", "none", f"a_{n}"] for n in range(4)])
    with pytest.raises(UsageError, match="there are 2, of 1 classes, 0 of them without"):
        gathered(tones, noise, start=load_checkpoint(start_of(tmp_path / "start")))


def test_noise_table_without_tags_is_refused(tones, noise):
    """With the columns that were expected."""
    (noise / "metadata.csv").write_text("file,category\nwind/0.wav,wind\n")
    with pytest.raises(UsageError, match=r"metadata.csv: column tag is missing; expected file and tag"):
        gathered(tones, noise)


def test_noise_that_is_not_there_is_refused(tones, noise):
    """With its line."""
    (noise / "metadata.csv").write_text("file,tag\nwind/0.wav,wind\nwind/9.wav,wind\n")
    with pytest.raises(UsageError, match=r"metadata.csv line 3: file is 'wind/9.wav' and tag 'wind'"):
        gathered(tones, noise)


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


class CutError(Exception):
    """Ends a run as a power cut would, as far as its files go."""


def test_run_that_was_cut_off_goes_on_to_the_same_end(tones, noise, levels, tmp_path, monkeypatch):
    """Bit for bit, from the middle of a turn, with curves that have no gap; then it is left as it is."""
    command = [str(tones), "--noise", str(noise), *QUICK, *levels, "--steps", "7", "--validate-every", "3"]
    assert main([*command, "--out", str(tmp_path / "whole")]) == 0
    monkeypatch.setattr("train.retain.run.retain.__kwdefaults__", retain.__kwdefaults__ | {"save_every_s": 0.0})
    step = RetainModule.training_step

    def cut_at_5(module, batch, index):
        if module.global_step == 5:
            raise CutError
        return step(module, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(RetainModule, "training_step", cut_at_5)
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
    assert "another configuration: align_weight was 1.0, now 2.0" in told(capsys)

"""Data that cannot be trained on is refused or told, by its name; awkward data trains."""

import numpy as np
import pytest
import soundfile

from train import fit
from train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from train.network import Network, NetworkSpec

QUICK = ["--preset", "logmel-os-scl", "--epochs", "1", "--batch-size", "4"]


def write_clips(folder, write_metadata, lengths, rates=(16_000,)):
    """Clips by class, of these lengths in seconds, their rates in turn."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = []
    for machine, seconds in lengths.items():
        for number, length in enumerate(seconds):
            rate = rates[number % len(rates)]
            name = f"{machine}_{number}.wav"
            soundfile.write(folder / name, 0.1 * rng.standard_normal(int(length * rate)), rate)
            lines.append([name, "fan", machine, "normal", "none", name])
    write_metadata(folder, lines)
    return folder


@pytest.mark.parametrize(
    ("lengths", "told"),
    [
        ({"a": [1.0] * 4}, "1 class with healthy recordings to train on (fan/a); expected 2 or more"),
        (
            {"a": [1.0] * 4, "b": [1.0]},
            "class fan/b has 1 groups of healthy recordings to train on; expected at least 3",
        ),
    ],
)
def test_too_few_clips_are_refused(tmp_path, write_metadata, capsys, lengths, told):
    """One class alone, or a class with one clip, by its name and before anything is written."""
    data = write_clips(tmp_path / "data", write_metadata, lengths)
    assert fit.main([str(data), "--out", str(tmp_path / "run"), *QUICK]) == 2
    assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_mixed_rates_and_lengths_train_and_a_last_clip_is_no_batch_alone(tmp_path, write_metadata):
    """Five clips in batches of four: the second batch is filled up, as batch norm needs it."""
    lengths = {"a": [1.3, 2.0, 11.0, 10.0, 1.0], "b": [3.0, 10.0, 1.5, 12.0]}
    data = write_clips(tmp_path / "data", write_metadata, lengths, rates=(16_000, 44_100, 22_050))
    run = tmp_path / "run"
    assert fit.main([str(data), "--out", str(run), *QUICK, "--windows-per-epoch", "5"]) == 0
    checkpoint = load_checkpoint(run)
    assert len(checkpoint.split.train) == 5
    assert np.isfinite(checkpoint.metrics["validation_loss"])


def test_raw_clips_without_sound_are_refused(tones, tmp_path, write_metadata, capsys):
    """A fraction of a second, or digital silence, whether to train on or to test on: figures would be made of them."""
    rng = np.random.default_rng(0)
    soundfile.write(tones / "a_0.wav", 0.1 * rng.standard_normal(100), 16_000)
    soundfile.write(tones / "b_0.wav", np.zeros(160_000), 16_000)
    soundfile.write(tones / "a_1.wav", np.full(160_000, 0.2), 16_000)
    soundfile.write(tones / "a_bad.wav", 0.1 * rng.standard_normal(15_999), 16_000)
    soundfile.write(tones / "b_1.wav", 0.1 * rng.standard_normal(16_000), 16_000)
    lines = [[f"{m}_{n}.wav", "tone", m, "normal", "train", f"{m}_{n}"] for m in "ab" for n in range(4)]
    write_metadata(tones, [*lines, ["a_bad.wav", "tone", "a", "anomaly", "test", "bad"]])
    assert fit.main([str(tones), "--out", str(tmp_path / "run"), *QUICK]) == 65
    told = " ".join(capsys.readouterr().err.split())
    assert "a_0.wav: it holds 100 samples at 16 kHz; expected 16000 (1 s) or more" in told
    assert "a_bad.wav: it holds 15999 samples" in told
    assert "b_0.wav: it is silent" in told
    assert "a_1.wav: it is silent" in told
    assert "b_1.wav" not in told
    assert "train.prepare leaves such clips out" in told


def test_clip_below_the_rate_is_refused(tmp_path, write_metadata, capsys):
    """What it lacks above 4 kHz cannot be made up."""
    data = write_clips(tmp_path / "data", write_metadata, {"a": [1.0] * 3, "b": [1.0] * 3}, rates=(8_000,))
    assert fit.main([str(data), "--out", str(tmp_path / "run"), *QUICK]) == 65
    assert "it is sampled at 8000 Hz" in " ".join(capsys.readouterr().err.split())


def test_bad_test_clips_are_told_before_the_first_step(tones, tmp_path, write_metadata, capsys):
    """They are scored after the last epoch; those and bad ones to train on stand in one message."""
    soundfile.write(tones / "a_bad.wav", np.full(24_000, np.nan, np.float32), 16_000, "FLOAT")
    (tones / "a_test.wav").write_text("no sound")
    (tones / "b_0.wav").write_bytes(b"")
    lines = [[f"{m}_{n}.wav", "tone", m, "normal", "train", f"{m}_{n}"] for m in "ab" for n in range(4)]
    lines += [["a_bad.wav", "tone", "a", "anomaly", "test", "bad"], ["a_test.wav", "tone", "a", "normal", "test", "t"]]
    write_metadata(tones, lines)
    assert fit.main([str(tones), "--out", str(tmp_path / "run"), *QUICK]) == 65
    told = " ".join(capsys.readouterr().err.split())
    assert "a_bad.wav: sample 0 (0.000 s) is nan" in told
    assert "a_test.wav: it cannot be read as sound" in told
    assert "b_0.wav: the file is empty" in told
    assert not (tmp_path / "run").exists()


def test_start_of_another_network_is_refused(tones, tmp_path, capsys):
    """With what it is and what was expected."""
    spec = NetworkSpec(branches=("log_mel",), n_classes=3)
    start = Checkpoint(network=Network(spec), spec=spec, classes=("tone/a", "tone/b", "tone/c"))
    save_checkpoint(tmp_path / "start.pt", start)
    arguments = ["--out", str(tmp_path / "run"), *QUICK, "--start-from", str(tmp_path / "start.pt")]
    assert fit.main([str(tones), *arguments]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "classes tone/a, tone/b, tone/c" in told
    assert "train it with the same options" in told

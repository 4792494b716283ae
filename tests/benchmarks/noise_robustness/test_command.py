"""The command measures the rows that are absent, keeps what is done, and runs on generated sound."""

import dataclasses
import json
import shutil
import signal

import pytest
import soundfile

from benchmarks.noise_robustness import methods
from benchmarks.noise_robustness.__main__ import main
from benchmarks.noise_robustness.networks import finished, times_of
from benchmarks.noise_robustness.studies import STUDIES
from train.synth import __main__ as synth


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """A small data folder of generated sound: two units of two types."""
    folder = tmp_path_factory.mktemp("generated")
    assert synth.main([str(folder), "--types", "fan", "valve", "--ids", "2", "--train", "3", "--test", "2"]) == 0
    return folder


@pytest.fixture
def counted(monkeypatch):
    """The rows that a start measured, with a method that needs no training."""
    measured = []

    def method(trial, compute):
        measured.append(trial.seed)
        return methods.log_mel_nearest(trial, compute)

    study = dataclasses.replace(STUDIES["methods"], methods={"log-mel": method}, quick_methods=("log-mel",))
    monkeypatch.setattr("benchmarks.noise_robustness.__main__.STUDIES", {"methods": study})
    return measured


def test_a_later_start_measures_what_is_absent(generated, tmp_path, counted, capsys):
    """Rows that the JSON holds stay as they are; what is absent is added; the table has the mean of both."""
    path = tmp_path / "results.json"
    command = [str(generated), "--quick", "--json", str(path)]
    assert main([*command, "--seeds", "0"]) == 0
    before = json.loads(path.read_text())
    assert main([*command, "--seeds", "0", "1", "--markdown"]) == 0
    after = json.loads(path.read_text())
    assert counted == [0, 1]
    assert after["rows"][0] == before["rows"][0]
    assert [row["seed"] for row in after["rows"]] == [0, 1]
    aucs = [row["figures"]["k-NN"]["mismatched"]["10"]["auc"] for row in after["rows"]]
    assert f"{50.0 * sum(aucs):.1f} ± " in capsys.readouterr().out
    assert after["sound"]["generated"]


def test_start_that_is_ended_counts_its_time(generated, tmp_path, monkeypatch, capsys):
    """Else a training that goes on looks faster than it was."""
    run = tmp_path / "run"
    run.mkdir()

    def method(_trial, _compute):
        finished(run, lambda: signal.raise_signal(signal.SIGTERM))

    study = dataclasses.replace(STUDIES["methods"], methods={"log-mel": method}, quick_methods=("log-mel",))
    monkeypatch.setattr("benchmarks.noise_robustness.__main__.STUDIES", {"methods": study})
    assert main([str(generated), "--quick", "--json", str(tmp_path / "results.json")]) == 128 + signal.SIGTERM
    assert times_of(run)[0] > 0.0
    assert "goes on where it was" in capsys.readouterr().err


def test_rows_of_another_protocol_are_not_mixed_in(generated, tmp_path, counted, capsys):
    """They would be compared with what they cannot be compared with."""
    path = tmp_path / "results.json"
    command = [str(generated), "--quick", "--seeds", "0", "--json", str(path)]
    assert main(command) == 0
    content = json.loads(path.read_text())
    content["protocol"]["windows"] += 1
    path.write_text(json.dumps(content))
    assert main(command) == 2
    assert "another protocol" in " ".join(capsys.readouterr().err.split())
    path.write_text("{")
    assert main(command) == 2
    assert "not results of this benchmark" in " ".join(capsys.readouterr().err.split())
    assert counted == [0]


def test_rows_of_other_sound_are_not_mixed_in(generated, tmp_path, counted, capsys):
    """Clips of the same names and numbers are told by their samples."""
    path = tmp_path / "results.json"
    other = tmp_path / generated.name
    shutil.copytree(generated, other)
    assert main([str(generated), "--quick", "--seeds", "0", "--json", str(path)]) == 0
    clip = next(other.rglob("*.wav"))
    samples, rate_hz = soundfile.read(clip, dtype="int16")
    soundfile.write(clip, samples[::-1], rate_hz, subtype="PCM_16")
    assert main([str(other), "--quick", "--seeds", "1", "--json", str(path)]) == 2
    assert "another sound" in " ".join(capsys.readouterr().err.split())
    assert counted == [0]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_quick_runs_every_kind_of_method_on_generated_sound(generated, tmp_path):
    """Nearest neighbours, a baseline and a network are trained and scored in every noise."""
    path = tmp_path / "results.json"
    assert main([str(generated), "--quick", "--json", str(path)]) == 0
    rows = {row["method"]: row for row in json.loads(path.read_text())["rows"]}
    assert list(rows) == ["log-mel", "ae", "logmel-os-scl"]
    assert set(rows["logmel-os-scl"]["figures"]) == {"margin", "k-NN", "k-NN map"}
    assert rows["logmel-os-scl"]["multiply_adds"] == pytest.approx(704e6, rel=0.02)
    for row in rows.values():
        for cases in row["figures"].values():
            values = [value for snrs in cases.values() for figures in snrs.values() for value in figures.values()]
            assert all(0.0 <= value <= 1.0 for value in values)

"""Which healthy clips a network takes for what they are, and what its scores are worth."""

import json

import pytest
import torch

from benchmarks.noise_robustness import told_apart
from benchmarks.noise_robustness.sound import open_sound
from benchmarks.noise_robustness.trial import Protocol, seed_folder
from train.checkpoint import Checkpoint, Split
from train.network import Network, NetworkSpec
from train.run_folder import METRICS_NAME
from train.synth import __main__ as synth

PROTOCOL = Protocol(limit=3, tested_mixtures=3, further_mixtures=1, memory_each=2, snrs_db=(0.0,), windows=8)


class SaysAlwaysTheFirst(Network):
    """Whatever it hears."""

    def forward(self, wave, log_mel):
        """Near the first class, far from the others."""
        return torch.zeros(len(wave), 128), torch.tensor([[0.9, 0.1, 0.1, 0.1]]).repeat(len(log_mel), 1)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """A small data folder of generated sound: two units of two types."""
    folder = tmp_path_factory.mktemp("generated")
    assert synth.main([str(folder), "--types", "fan", "valve", "--ids", "2", "--train", "4", "--test", "2"]) == 0
    return folder


def test_deaf_network_is_right_by_chance_and_its_scores_are_worth_nothing(generated, tmp_path, monkeypatch, capsys):
    """A quarter of the clips; AUC 0.5. Without a trained network it says what it expected."""
    monkeypatch.setattr(told_apart, "Protocol", lambda: PROTOCOL)
    command = [str(generated), "--work", str(tmp_path), "--seeds", "0", "--json", str(tmp_path / "told.json")]
    assert told_apart.main(command) == 2
    assert "holds no trained network" in " ".join(capsys.readouterr().err.split())
    sound = open_sound(generated, tmp_path)
    classes = tuple(sorted({recording.class_name for recording in sound.recordings}))
    spec = NetworkSpec(n_classes=len(classes), branches=("log_mel",))
    checkpoint = Checkpoint(
        network=SaysAlwaysTheFirst(spec).eval(), spec=spec, classes=classes, split=Split(), training={}
    )
    monkeypatch.setattr(told_apart, "load_checkpoint", lambda _run: checkpoint)
    run = seed_folder(tmp_path, sound, PROTOCOL, 0) / "logmel-os-scl"
    run.mkdir(parents=True)
    (run / METRICS_NAME).write_text("{}")
    assert told_apart.main(command) == 0
    (row,) = json.loads((tmp_path / "told.json").read_text())["rows"]
    assert (row["method"], row["seed"], row["trained_on"], row["unheard"]) == ("logmel-os-scl", 0, 0.25, {"0": 0.25})
    assert (row["auc_margin"], row["auc_cosine"]) == ({"0": 0.5}, {"0": 0.5})

"""Rows with one setting changed: each changes what its name says, and nothing else."""

import dataclasses
import json

import pytest

from benchmarks.noise_robustness.__main__ import main
from benchmarks.noise_robustness.choices import CHANGES
from benchmarks.noise_robustness.methods import Compute, settings_for
from benchmarks.noise_robustness.studies import STUDIES
from benchmarks.noise_robustness.trial import Protocol
from train.synth import __main__ as synth

CHANGED = {
    "slower": {"learning_rate", "final_learning_rate"},
    "faster": {"learning_rate", "final_learning_rate"},
    "longer": {"windows_per_epoch"},
    "longest": {"windows_per_epoch"},
    "unmixed": {"mixup_alpha"},
    "noisy-arcmix": {"loss"},
    "arcface": {"loss", "mixup_alpha"},
    "headless": {"head_reduction"},
    "speeds": {"augment"},
    "altered": {"augment"},
    "averaged": {"batch_norm"},
}


@pytest.mark.parametrize("base", ["logmel-os-scl", "tfstgram-os-scl"])
def test_a_row_changes_what_its_name_says_alone(base):
    """Else a figure could hang on something that the row does not tell."""
    table = settings_for(base, Protocol(), Compute(), 0)
    found = {}
    for name, change in CHANGES.items():
        other = change(table)
        found[name] = {
            field.name
            for field in dataclasses.fields(table)
            if getattr(other, field.name) != getattr(table, field.name)
        }
    assert found == CHANGED
    assert {f"{base} {name}" for name in CHANGED} <= set(STUDIES["choices"].methods)


def test_windows_and_learning_rates_are_multiples_of_the_tables():
    """The cosine ends at a tenth of its start in every row."""
    table = settings_for("logmel-os-scl", Protocol(), Compute(), 0)
    assert [CHANGES[name](table).windows_per_epoch for name in ("longer", "longest")] == [2560, 5120]
    for name, learning_rate in (("slower", 1e-3 / 3.0), ("faster", 3e-3)):
        settings = CHANGES[name](table)
        assert settings.learning_rate == pytest.approx(learning_rate)
        assert settings.final_learning_rate == pytest.approx(learning_rate / 10.0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_quick_runs_every_row(tmp_path):
    """Altered windows as classes of their own among them: the margin score still finds the machine's."""
    folder, path = tmp_path / "generated", tmp_path / "results.json"
    assert synth.main([str(folder), "--types", "fan", "valve", "--ids", "2", "--train", "4", "--test", "2"]) == 0
    assert main([str(folder), "--study", "choices", "--quick", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert [row["method"] for row in rows] == list(STUDIES["choices"].quick_methods)
    assert all(set(row["figures"]) == {"margin", "k-NN", "k-NN map"} for row in rows)

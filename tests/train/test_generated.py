"""Sound that was generated is known to be, and everything made of it says so."""

import json

import numpy as np
import soundfile

from train import evaluate, fit
from train.checkpoint import load_checkpoint
from train.data.generated import CARD_HEADING, CARD_NAME, GENERATED_NOTE, is_generated
from train.prepare import prepare
from train.synth import data_set
from train.synth.card import card


def say_generated(folder):
    (folder / CARD_NAME).write_text(card((), 0, 0.5, 0.0, ""))


def test_card_of_the_generator_is_known(tones):
    """By its heading: real data may have a card of its own."""
    assert data_set.CARD_NAME == CARD_NAME
    assert not is_generated(tones)
    (tones / CARD_NAME).write_text("# Motors of hall 3\n")
    assert not is_generated(tones)
    say_generated(tones)
    assert (tones / CARD_NAME).read_text().startswith(CARD_HEADING)
    assert is_generated(tones)


def test_table_without_its_card_says_so_too(tmp_path):
    """Of a folder that was copied in part."""
    table = "file,machine_type,machine_id,label,split,group,source\na.wav,fan,0,normal,train,,{}\n"
    for source in ("line 3", "generated"):
        (tmp_path / "metadata.csv").write_text(table.format(source))
        assert is_generated(tmp_path) == (source == "generated")


def test_folder_of_one_type_and_prepared_sound_are_known(tmp_path):
    """Below the card; and prepared, also where the source is gone."""
    clip = tmp_path / "source" / "fan" / "train" / "normal_id_00_00000000.wav"
    clip.parent.mkdir(parents=True)
    soundfile.write(clip, 0.1 * np.random.default_rng(0).standard_normal(160_000), 16_000)
    prepare(tmp_path / "source", tmp_path / "recorded")
    assert not is_generated(tmp_path / "recorded")
    say_generated(tmp_path / "source")
    assert is_generated(tmp_path / "source" / "fan")
    assert is_generated(tmp_path / "recorded")  # by an earlier version, which did not label it
    prepare(tmp_path / "source", tmp_path / "labelled")
    (tmp_path / "source").rename(tmp_path / "elsewhere")
    assert is_generated(tmp_path / "labelled")


def test_run_and_its_report_say_that_the_sound_was_generated(tones, tmp_path, capsys):
    """The run on the console and in its files, from which the model card has it; the report in its notes."""
    say_generated(tones)
    run, report = tmp_path / "run", tmp_path / "report"
    quick = ("--preset", "logmel-os-scl", "--epochs", "1", "--batch-size", "4", "--windows-per-epoch", "4")
    assert fit.main([str(tones), "--out", str(run), *quick]) == 0
    assert GENERATED_NOTE in " ".join(capsys.readouterr().err.split())
    assert json.loads((run / "metrics.json").read_text())["sound"] == "generated"
    assert load_checkpoint(run).training["sound"] == "generated"
    assert evaluate.main([str(run), str(tones), "--out", str(report)]) == 0
    assert GENERATED_NOTE in " ".join(capsys.readouterr().err.split())
    assert GENERATED_NOTE in json.loads((report / "metrics.json").read_text())["notes"]
    page = (report / "report.html").read_text()
    assert GENERATED_NOTE in page
    assert "the run was trained on generated sound" in page

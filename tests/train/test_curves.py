"""Rows of metrics.csv stay, whenever a run is killed and wherever it goes on."""

import csv
from pathlib import Path

import pytest

from edge_asd.errors import UsageError
from train.curves import CURVES_NAME, Curves


def rows(folder):
    with (folder / CURVES_NAME).open(newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def test_rows_stand_in_the_order_of_their_calls(tmp_path):
    """Figures that are new in a later one included."""
    curves = Curves(tmp_path / CURVES_NAME, n_steps=0)
    assert rows(tmp_path) == []
    curves.log_metrics({"validation_loss": 0.5, "epoch": 0}, 2)
    curves.log_metrics({"train_loss": 1 / 3, "epoch": 0}, 2)
    curves.log_metrics({"validation_loss": 0.25, "epoch": 1}, 5)
    assert rows(tmp_path) == [
        {"step": "2", "epoch": "0", "validation_loss": "0.5"},
        {"step": "2", "epoch": "0", "train_loss": str(1 / 3)},
        {"step": "5", "epoch": "1", "validation_loss": "0.25"},
    ]


def test_rows_up_to_the_state_are_kept(tmp_path):
    """Those after it come again, and so do figures that only they had."""
    first = Curves(tmp_path / CURVES_NAME, n_steps=0)
    for step in range(5):
        first.log_metrics({"train_loss": step / 2}, step)
    first.log_metrics({"validation_loss": 9.0}, 4)
    second = Curves(tmp_path / CURVES_NAME, n_steps=3)
    second.log_metrics({"validation_loss": 7.0}, 3)
    assert [row["step"] for row in rows(tmp_path)] == ["0", "1", "2", "3"]
    assert rows(tmp_path)[2:] == [{"step": "2", "train_loss": "1.0"}, {"step": "3", "validation_loss": "7.0"}]


def test_row_that_was_cut_is_left_out(tmp_path):
    """Anywhere within it."""
    text = "epoch,step,train_loss\n0,1,0.5\n1,3,0.25\n"
    for kept in range(text.index("1,3"), len(text)):
        (tmp_path / CURVES_NAME).write_text(text[:kept])
        Curves(tmp_path / CURVES_NAME, n_steps=100)
        assert rows(tmp_path) == [{"epoch": "0", "step": "1", "train_loss": "0.5"}]


@pytest.mark.parametrize("content", [b"step,loss\nmany,0.5\n", b"loss\n0.5\n", b"\xff\xfe\n", b"step\n\x00\n"])
def test_what_is_no_row_of_a_run_is_told(tmp_path, content):
    """And stays as it is."""
    (tmp_path / CURVES_NAME).write_bytes(content)
    with pytest.raises(UsageError, match=r"metrics\.csv: not the curves of a run"):
        Curves(tmp_path / CURVES_NAME, n_steps=3)
    assert (tmp_path / CURVES_NAME).read_bytes() == content


def test_rows_stay_while_the_file_is_written_anew(tmp_path, monkeypatch):
    """Where a run goes on, and where a figure is new."""

    class KilledError(Exception):
        pass

    def killed(_path, _target):
        raise KilledError

    curves = Curves(tmp_path / CURVES_NAME, n_steps=0)
    curves.log_metrics({"train_loss": 0.5}, 0)
    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KilledError):
        curves.log_metrics({"validation_loss": 0.5}, 0)
    with pytest.raises(KilledError):
        Curves(tmp_path / CURVES_NAME, n_steps=1)
    assert rows(tmp_path) == [{"step": "0", "train_loss": "0.5"}]

"""Training benchmark: real contestants in turns, their ratio, and what the whole recipe would take."""

import json

import pytest

from benchmarks import training
from benchmarks.turns import contestant


def test_recipe_is_extrapolated_from_the_rate():
    """20,000 clips and 300 epochs at 100 windows a second take 16 h 40 min."""
    assert training.recipe_hours(100.0) == pytest.approx(50.0 / 3.0)


def test_contestant_that_dies_is_an_error():
    """With its exit code, not a silent gap in the table."""
    with pytest.raises(RuntimeError, match="a contestant ended"), contestant("benchmarks.no_such_module", []):
        pass


@pytest.mark.slow
def test_quick_run_measures_both(tmp_path):
    """Both have trained, and the ratio is that of their rates."""
    path = tmp_path / "training.json"
    assert training.main(["--quick", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    rates = {name: figures["windows_per_s"] for name, figures in report["contestants"].items()}
    assert report["ratios"]["product over plain"] == pytest.approx(rates["product"] / rates["plain"])
    assert all(figures["steps"] == 4 for figures in report["contestants"].values())
    assert report["extrapolated_hours"]["product"] == pytest.approx(training.recipe_hours(rates["product"]))


def test_quick_run_replaces_no_figures(monkeypatch):
    """Without --json nothing is written."""
    figures = {"windows_per_s": 1.0, "step_p50_s": 1.0, "step_max_s": 1.0, "steps": 1.0, "first_two_steps_s": 1.0}
    monkeypatch.setattr(
        training, "measure", lambda *_, **__: ({training.PLAIN: figures, training.PRODUCT: figures}, {})
    )
    monkeypatch.delattr(training, "write_report")
    assert training.main(["--quick"]) == 0


def test_absent_gpu_is_told_before_any_clip_is_made(monkeypatch, capsys):
    """With what to do."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delattr(training, "_write_clips")
    assert training.main(["--quick", "--device", "cuda"]) == 69
    assert "use --device cpu" in capsys.readouterr().err

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

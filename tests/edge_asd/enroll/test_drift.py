"""Recent scores beside enrolled ones."""

import numpy as np
import pytest

from edge_asd.enroll.drift import drift

HEALTHY = np.random.default_rng(0).standard_normal(500)
QUANTILES = tuple(np.quantile(HEALTHY, np.linspace(0, 1, 101)))


def test_same_sound_has_not_drifted() -> None:
    """Fresh scores of the same kind."""
    found = drift(np.random.default_rng(1).standard_normal(200), QUANTILES, 6.0, n_enrolled=1_000)
    assert (found.has_drifted, found.above_threshold) == (False, 0.0)
    assert abs(found.above_median - 0.5) < 0.12


def test_machine_that_moved_has_drifted_long_before_it_alarms() -> None:
    """One standard deviation further, with nothing above the threshold."""
    found = drift(np.random.default_rng(1).standard_normal(200) + 1.0, QUANTILES, 6.0, n_enrolled=1_000)
    assert (found.has_drifted, found.above_threshold) == (True, 0.0)


def test_few_windows_say_nothing() -> None:
    """However far they are."""
    assert drift([50.0] * 5, QUANTILES, 6.0, n_enrolled=1_000).has_drifted is None


@pytest.mark.parametrize("n_enrolled", [10, 20, 30, 60, 180])
@pytest.mark.parametrize("n_recent", [30, 100, 1_000])
def test_few_enrolled_windows_give_no_false_verdict(n_enrolled, n_recent) -> None:
    """The machine is as it was: in at most 2 % of enrolments is it told to have moved away."""
    random = np.random.default_rng(n_enrolled)
    verdicts = []
    for _ in range(400):
        quantiles = np.quantile(random.standard_normal(n_enrolled), np.linspace(0, 1, 101)).tolist()
        verdicts.append(drift(random.standard_normal(n_recent), quantiles, 6.0, n_enrolled=n_enrolled).has_drifted)
    assert verdicts.count(True) <= 8


def test_far_move_is_told_though_few_windows_were_enrolled() -> None:
    """All recent sound lies above all that was enrolled."""
    quantiles = np.quantile(np.arange(10.0), np.linspace(0, 1, 101)).tolist()
    assert drift(np.full(100, 20.0), quantiles, 30.0, n_enrolled=10).has_drifted is True
    assert drift(np.r_[np.full(30, 20.0), np.zeros(70)], quantiles, 30.0, n_enrolled=10).has_drifted is None

"""Recent scores beside enrolled ones."""

import numpy as np

from edge_asd.enroll.drift import drift

HEALTHY = np.random.default_rng(0).standard_normal(500)
QUANTILES = tuple(np.quantile(HEALTHY, np.linspace(0, 1, 101)))


def test_same_sound_has_not_drifted() -> None:
    """Fresh scores of the same kind."""
    found = drift(np.random.default_rng(1).standard_normal(200), QUANTILES, 6.0)
    assert (found.has_drifted, found.above_threshold) == (False, 0.0)
    assert abs(found.above_median - 0.5) < 0.12


def test_machine_that_moved_has_drifted_long_before_it_alarms() -> None:
    """One standard deviation further, with nothing above the threshold."""
    found = drift(np.random.default_rng(1).standard_normal(200) + 1.0, QUANTILES, 6.0)
    assert (found.has_drifted, found.above_threshold) == (True, 0.0)


def test_few_windows_say_nothing() -> None:
    """However far they are."""
    assert drift([50.0] * 5, QUANTILES, 6.0).has_drifted is None

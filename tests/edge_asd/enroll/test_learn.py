"""What is calibrated of a memory: the threshold keeps its promise or says that it is extrapolated; what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from edge_asd.enroll.learn import learn
from edge_asd.errors import ClipError, UsageError
from edge_asd.score import KnnScorer


def calibrated(memory, per_week=1.0):
    """With windows of 10 s."""
    return learn(memory, false_alarms_per_week=per_week, window_s=10.0, precision="int8")


def test_threshold_is_conformal_where_the_sound_is_enough(make_memory) -> None:
    """2,000 a week is one window in 30; 200 minutes show that, and fresh sound of the machine keeps to it."""
    memory, fresh = make_memory(200), make_memory(3_000, seed=1)
    calibration = calibrated(memory, per_week=2_000.0).calibration
    assert (calibration.threshold.method, calibration.threshold.extrapolated) == ("conformal", False)
    above = KnnScorer(memory, calibration.fit).score_vectors(fresh.vectors) >= calibration.threshold.threshold
    assert above.mean() <= 1.5 * 2_000 / 60_480


def test_too_little_sound_for_the_target_is_extrapolated_and_told(make_memory) -> None:
    """One a week is one window in 60,480: half an hour cannot show that."""
    threshold = calibrated(make_memory(180, per_group=6)).calibration.threshold
    assert threshold.extrapolated
    assert threshold.n_clips == 30
    assert "the target needs 168 h" in threshold.note


def test_windows_of_one_minute_do_not_judge_each_other(make_memory) -> None:
    """Six copies of each of 30 windows in its own minute leave the scores of the 30."""
    one = make_memory(30)
    rows = np.repeat(np.arange(30), 6)
    np.testing.assert_allclose(
        np.unique(np.round(calibrated(one.taken(rows)).scores, 3)).size,
        np.unique(np.round(calibrated(one).scores, 3)).size,
    )


@pytest.mark.parametrize(("n", "per_group"), [(9, 1), (40, 10)])
def test_too_few_windows_or_minutes_are_refused(make_memory, n, per_group) -> None:
    """Nine clips, or many windows of four minutes."""
    with pytest.raises(ClipError, match="expected at least 10 of 5"):
        calibrated(make_memory(n, per_group=per_group))


def test_copies_of_one_clip_are_refused(make_memory) -> None:
    """Thirty clips that are one."""
    memory = make_memory(30)
    with pytest.raises(ClipError, match="all alike"):
        calibrated(replace(memory, vectors=np.tile(memory.vectors[:1], (30, 1))))


def test_threshold_that_nothing_could_reach_is_refused(make_memory) -> None:
    """Ten windows that differ widely, and a target far beyond them."""
    with pytest.raises(UsageError, match="no sound can score more than"):
        calibrated(make_memory(10, spread=8.0), per_week=1e-9)


def test_window_like_no_other_is_told(make_memory) -> None:
    """A door among an hour of a motor: it stays in the memory, for a person to judge."""
    memory = make_memory(60)
    strange = memory.vectors.copy()
    strange[17] = -strange[17]
    assert calibrated(replace(memory, vectors=strange)).strange.tolist() == [17]

"""What is calibrated of a memory: the threshold keeps its promise or says that it is extrapolated; what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from edge_asd.enroll.learn import UnreachableError, learn
from edge_asd.errors import ClipError, UsageError
from edge_asd.score import KnnScorer


def calibrated(memory, per_week=1.0, groups="minutes or clips"):
    """With windows of 10 s."""
    return learn(memory, false_alarms_per_week=per_week, window_s=10.0, precision="int8", groups=groups)


def test_threshold_is_conformal_where_the_sound_is_enough(make_memory) -> None:
    """2,000 a week is one window in 30; 200 minutes show that, and fresh sound of the machine keeps to it."""
    memory, fresh = make_memory(200), make_memory(3_000, seed=1)
    calibration = calibrated(memory, per_week=2_000.0).calibration
    assert (calibration.threshold.method, calibration.threshold.extrapolated) == ("conformal", False)
    above = KnnScorer(memory, calibration.fit).score_vectors(fresh.vectors) >= calibration.threshold.threshold
    assert above.mean() <= 1.5 * 2_000 / 60_480


def test_too_little_sound_for_the_target_is_extrapolated_and_told(make_memory) -> None:
    """One a week is one window in 60,480, and a minute shows one of its six: neither half an hour nor a day is enough.

    60,479 minutes are 1,008 h, and a memory holds 8,640 windows, six a minute: one in 1,441, 42 a week.
    """
    threshold = calibrated(make_memory(180, per_group=6), groups="minutes").calibration.threshold
    assert threshold.extrapolated
    assert threshold.n_clips == 30
    assert (
        "; 30 minutes, one window each, show rates down to 1,951 a week, and the target takes 60,479 (1,008 h), more "
        "than the 1,440 like these that a memory holds: below 42 a week every threshold is extrapolated"
    ) in threshold.note


def test_clips_of_a_window_each_show_lower_rates(make_memory) -> None:
    """8,640 of them fit into a memory: one in 8,641, 7 a week."""
    note = calibrated(make_memory(100), groups="clips").calibration.threshold.note
    assert "; 100 clips, one window each, show rates down to 599 a week, and the target takes 60,479, more" in note
    assert "the 8,640 like these that a memory holds: below 7 a week every threshold is extrapolated" in note


def test_target_that_more_sound_would_show_says_how_much(make_memory) -> None:
    """At 500 a week, one window in 120.96, 120 minutes; 119 are too few."""
    note = calibrated(make_memory(714, per_group=6), per_week=500.0, groups="minutes").calibration.threshold.note
    assert note.endswith(
        "; 119 minutes, one window each, show rates down to 504 a week, and the target takes 120 (2 h)"
    )
    enough = calibrated(make_memory(720, per_group=6), per_week=500.0, groups="minutes").calibration.threshold
    assert enough.method == "conformal"


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


@pytest.mark.parametrize("layer", ["embedding", "feature_map"])
def test_threshold_that_nothing_could_reach_is_refused(make_memory, encoder, layer) -> None:
    """Ten windows that differ widely, and a target far beyond them: not even sound at right angles to all of them."""
    memory = make_memory(10, spread=8.0, encoder=replace(encoder, layer=layer))
    with pytest.raises(UsageError, match="no fault would raise an alarm"):
        calibrated(memory, per_week=0.1)


def door(memory, row):
    """One window is sound from elsewhere."""
    strange = memory.vectors.astype(np.float64)
    strange[row] += 0.3 * np.eye(128)[row]
    strange /= np.linalg.norm(strange, axis=1, keepdims=True)
    return replace(memory, vectors=strange.astype(np.float32))


def test_window_like_no_other_is_told(make_memory) -> None:
    """A door among an hour of a motor: it stays in the memory, for a person to judge."""
    assert calibrated(door(make_memory(60), 17)).strange.tolist() == [17]


def test_window_that_makes_the_threshold_unreachable_is_told(make_memory) -> None:
    """The opposite of all others: with it in, nothing would be heard; the error has its row."""
    memory = make_memory(60)
    strange = memory.vectors.copy()
    strange[17] = -strange[17]
    with pytest.raises(UnreachableError, match="leave out what is not the machine's") as caught:
        calibrated(replace(memory, vectors=strange))
    assert caught.value.strange.tolist() == [17]


def slow(n_minutes, minutes_of_memory, *, seed):
    """Windows, six to a minute, of a machine whose sound wanders in six ways with that correlation time."""
    random = np.random.default_rng(seed)
    keep = np.exp(-1.0 / (6.0 * minutes_of_memory)) if minutes_of_memory else 0.0
    state = np.zeros((6 * n_minutes, 6))
    state[0] = random.standard_normal(6)
    for at in range(1, len(state)):
        state[at] = keep * state[at - 1] + np.sqrt(1.0 - keep**2) * random.standard_normal(6)
    centre = 100.0 * np.eye(128)[0]
    vectors = centre + 10.0 * state @ np.eye(6, 128, 1) + 0.3 * random.standard_normal((len(state), 128))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("minutes", [5.0, 20.0])
@pytest.mark.parametrize("seed", range(4))
def test_slowly_changing_sound_is_not_called_conformal(make_memory, minutes, seed) -> None:
    """Its minutes are not exchangeable: a promise that holds for any distribution would be broken many times over."""
    memory = replace(make_memory(1_080, per_group=6), vectors=slow(180, minutes, seed=seed))
    threshold = calibrated(memory, per_week=1_000.0).calibration.threshold
    assert threshold.extrapolated
    assert "scores of neighbouring minutes correlate" in threshold.note


def test_sound_without_memory_keeps_its_conformal_promise(make_memory) -> None:
    """Minutes without a gap, at 1,000 a week: fresh sound is above the threshold about as often."""
    rates, methods = [], []
    for seed in range(6):
        memory = replace(make_memory(1_080, per_group=6), vectors=slow(180, 0.0, seed=seed))
        calibration = calibrated(memory, per_week=1_000.0).calibration
        scores = KnnScorer(memory, calibration.fit).score_vectors(slow(300, 0.0, seed=100 + seed))
        rates.append(60_480 * (scores >= calibration.threshold.threshold).mean())
        methods.append(calibration.threshold.method)
    assert methods.count("conformal") >= 5
    assert np.mean(rates) < 1_300.0


def test_windows_beside_a_minute_do_not_judge_it(make_memory) -> None:
    """The last window of a minute and the first of the next are ten seconds apart; two minutes on it may be copied."""
    memory = make_memory(60, per_group=6)
    vectors = memory.vectors.copy()
    vectors[6::12] = vectors[5:-1:12]  # each odd minute begins as the one before ends
    assert calibrated(replace(memory, vectors=vectors)).scores.min() > -3.0
    far = memory.vectors.copy()
    far[12::24] = far[5:-12:24]
    held_out = calibrated(replace(memory, vectors=far)).scores
    assert held_out.min() < -3.0

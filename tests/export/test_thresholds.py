"""Thresholds keep what their method promises, and say where they cannot."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from edge_asd.errors import UsageError
from edge_asd.score import MarginScorer
from edge_asd.threshold import Target, conformal_threshold, fit_tail
from export.thresholds import fit_thresholds, score_ceiling

FAR = {"fan/A": 1e9, "fan/B": 1e9, "fan/C": 1e9}


def _target(per_day: float) -> Target:
    return Target(false_alarms_per_day=per_day, window_s=10.0)


def _normal(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(-15.0, 2.0, n).astype(np.float32)


def _fitted(scores, per_day: float, ceilings=None, trained=None, scorer="margin"):
    return fit_thresholds(
        scores,
        _target(per_day),
        scorer=scorer,
        trained_scores=trained or {},
        ceilings=ceilings or FAR,
        precision="int8",
    )


def _fit(scores, per_day: float, ceilings=None, trained=None):
    return _fitted(scores, per_day, ceilings, trained).with_all_of(scores, print)


@given(
    scores=st.lists(st.floats(-60, 60, width=32), min_size=1, max_size=60),
    alpha=st.floats(0.01, 0.49),
)
def test_conformal_threshold_is_the_lowest_that_holds(scores, alpha):
    """Any score above it has p = (1 + #{calibration >= s}) / (n + 1) <= alpha; the next lower clip's would not do."""
    values = np.array(scores, dtype=np.float64)
    if len(values) + 1 < 1 / alpha:
        with pytest.raises(ValueError, match="expected at least"):
            conformal_threshold(values, alpha)
        return
    threshold = conformal_threshold(values, alpha)
    above = math.nextafter(threshold, math.inf)
    assert (1 + (values >= above).sum()) / (len(values) + 1) <= alpha * (1 + 1e-9)
    lower = values[values < threshold]
    if len(lower):
        assert (1 + (values >= threshold).sum()) / (len(values) + 1) > alpha * (1 - 1e-9)


def test_enough_clips_are_not_extrapolated():
    """8640 windows a day: with 359 clips, 24 false alarms a day is the lowest rate that the clips themselves show."""
    enough = _fit({"fan/A": _normal(359)}, 24.0)["fan/A"]
    assert (enough.method, enough.extrapolated, enough.n_clips) == ("conformal", False, 359)
    assert enough.threshold == pytest.approx(_normal(359).max())
    assert _fit({"fan/A": _normal(358)}, 24.0)["fan/A"].extrapolated


def test_conformal_rate_of_fresh_scores_is_the_target():
    """Over many draws, the share of fresh healthy scores above the threshold is at most alpha, and not far below."""
    shares = []
    for seed in range(200):
        scores = _normal(200, seed)
        threshold = conformal_threshold(scores[:100].astype(np.float64), 0.05)
        shares.append((scores[100:] > threshold).mean())
    assert 0.035 < np.mean(shares) <= 0.055


@pytest.mark.parametrize(
    ("n_clips", "method"),
    [(100, "genpareto"), (99, "genpareto"), (30, "genpareto"), (29, "student_t"), (6, "student_t")],
)
def test_method_follows_from_the_number_of_clips(n_clips, method):
    """Each is extrapolated and says so."""
    threshold = _fit({"fan/A": _normal(n_clips)}, 1.0)["fan/A"]
    assert (threshold.method, threshold.extrapolated, threshold.n_clips) == (method, True, n_clips)
    assert threshold.alpha == pytest.approx(1 / 8640)
    assert threshold.threshold > _normal(n_clips).max()


@pytest.mark.parametrize("n_clips", [400, 60, 15])
def test_tail_is_near_the_true_quantile(n_clips):
    """Of a known distribution, at a rate that the clips do not show, in the median over draws."""
    alpha = 0.2 / n_clips
    found = [
        fit_tail("fan/A", {"fan/A": _normal(n_clips, seed).astype(float)}, {}).quantile(alpha) for seed in range(40)
    ]
    true = stats.norm.isf(alpha, -15.0, 2.0)
    assert abs(np.median(found) - true) < 2.0


@pytest.mark.parametrize(
    "healthy",
    [stats.expon(), stats.gamma(9), stats.norm(), stats.t(5), stats.lognorm(0.5)],
    ids=["exponential", "gamma", "normal", "t", "lognormal"],
)
@pytest.mark.parametrize("n_clips", [30, 60, 99, 100, 150, 180, 500, 1_000, 5_000])
def test_extrapolated_threshold_is_within_a_factor_of_the_true_one(healthy, n_clips):
    """At one window in 60,480: from 0.5 to 2 in the median, and from 0.3 to 3 in 19 of 20 draws."""
    random, alpha = np.random.default_rng(0), 1 / 60_480
    true = (healthy.isf(alpha) - healthy.mean()) / healthy.std()
    drawn = (healthy.rvs((60, n_clips), random_state=random) - healthy.mean()) / healthy.std()
    share = np.array([fit_tail("fan/A", {"fan/A": scores}, {}).quantile(alpha) for scores in drawn]) / true
    assert 0.5 < np.median(share) < 2.0
    assert 0.3 < np.quantile(share, 0.05) <= np.quantile(share, 0.95) < 3.0


def test_one_more_clip_moves_no_threshold_far():
    """Of clips that lie just where an exponential's would: no number of them changes the method's mind."""
    found = []
    for n_clips in range(30, 700):
        scores = stats.expon.isf((np.arange(n_clips) + 0.5) / n_clips)
        found.append(fit_tail("fan/A", {"fan/A": scores}, {}).quantile(1 / 60_480))
    assert np.abs(np.diff(np.log(found))).max() < 0.03
    assert 0.8 * math.log(60_480) < min(found) <= max(found) < 1.2 * math.log(60_480)


def test_tail_of_equal_scores_is_refused():
    """Half of forty clips score the same highest score."""
    scores = np.concatenate([np.linspace(-3.0, -2.0, 20), np.full(20, -2.0)])
    with pytest.raises(UsageError, match="copies"):
        fit_tail("fan/A", {"fan/A": scores}, {})


@pytest.mark.parametrize("n_clips", [3, 8, 40, 150])
def test_quantile_and_exceedance_are_inverse(n_clips):
    """What the error message offers as reachable is what would be fitted."""
    tail = fit_tail("fan/A", {"fan/A": _normal(n_clips).astype(float)}, {})
    assert tail.exceedance(tail.quantile(0.003)) == pytest.approx(0.003)


def test_few_clips_share_their_spread():
    """Own mean, spread of all classes about their own means, degrees of freedom n - classes."""
    scores = {
        "fan/A": np.array([-20.0, -18.0]),
        "fan/B": np.array([-10.0, -11.0, -12.0]),
        "fan/C": np.array([-5.0, -5.5]),
    }
    found = _fit(scores, 8.64)["fan/A"]
    spread = math.sqrt((2.0 + 2.0 + 0.125) / 4)
    expected = -19.0 + stats.t.isf(0.001, 4) * spread * math.sqrt(1.5)
    assert found.threshold == pytest.approx(expected)
    assert (found.method, found.n_clips, found.n_clips_pooled) == ("student_t_pooled", 2, 7)


def test_one_clip_a_class_and_nothing_else_is_taken_as_one_class():
    """There is no spread within a class to see: mean and spread over all, two degrees of freedom left."""
    scores = {"fan/A": np.array([-20.0]), "fan/B": np.array([-18.0]), "fan/C": np.array([-19.0])}
    thresholds = _fit(scores, 86.4)
    expected = -19.0 + stats.t.isf(0.01, 2) * 1.0 * math.sqrt(1 + 1 / 3)
    assert [found.threshold for found in thresholds.values()] == pytest.approx([expected] * 3)
    assert "2 degrees of freedom" in thresholds["fan/B"].note


def test_one_clip_a_class_borrows_the_spread_of_clips_trained_on():
    """The mean is that of the fresh clip alone: clips trained on score too low to say anything of it."""
    scores = {"fan/A": np.array([-20.0]), "fan/B": np.array([-10.0])}
    trained = {"fan/A": np.array([-33.0, -31.0, -29.0]), "fan/B": np.array([-40.0, -42.0])}
    found = _fit(scores, 86.4, trained=trained)["fan/B"]
    expected = -10.0 + stats.t.isf(0.01, 3) * math.sqrt((8.0 + 2.0) / 3) * math.sqrt(2.0)
    assert found.threshold == pytest.approx(expected)
    assert "optimistic" in found.note


def test_one_clip_in_all_is_refused():
    """One clip shows no spread."""
    with pytest.raises(UsageError, match="1 healthy clip"):
        _fit({"fan/A": np.array([-20.0])}, 10.0)


def test_copies_of_one_clip_are_refused():
    """A spread of nothing would put the threshold on the healthy score itself."""
    with pytest.raises(UsageError, match="copies"):
        _fit({"fan/A": np.full(8, -20.0)}, 10.0)


def test_threshold_beyond_any_fault_is_refused_with_a_rate_that_is_not():
    """Three clips cannot carry one false alarm a day; the rate that the message names can be had."""
    scores = {"fan/A": np.array([-20.0]), "fan/B": np.array([-18.0]), "fan/C": np.array([-19.0])}
    ceilings = {"fan/A": 10.0, "fan/B": 11.0, "fan/C": 12.0}
    with pytest.raises(UsageError, match=r"fan/A: 56.* a target above ([\d.]+) a day") as caught:
        _fit(scores, 1.0, ceilings)
    rate = float(str(caught.value).split("a target above ")[1].split()[0])
    assert all(found.threshold < 10.0 for found in _fit(scores, rate * 1.01, ceilings).values())


@pytest.mark.parametrize(
    ("scorer", "sound"),
    [
        ("margin", "a sound taken wholly for another class"),
        ("knn", "a sound at right angles to all healthy ones"),
        ("fusion", "a sound taken wholly for another class and at right angles to all healthy ones"),
    ],
)
def test_refusal_says_which_sound_scores_highest(scorer, sound):
    """It is another one for each scorer."""
    refused = _fitted({"fan/A": _normal(10)}, 1.0, {"fan/A": -10.0}, scorer=scorer).refused
    assert f"is not below -10.0, which {sound} scores: no fault would raise an alarm" in refused["fan/A"]


def test_class_that_is_refused_a_threshold_leaves_the_others_theirs():
    """Whether no fault could reach it or its clips are copies; who needs none of this scorer is told alone."""
    scores = {"fan/A": _normal(10), "fan/B": _normal(10, 1), "fan/C": np.full(8, -20.0)}
    fitted, said = _fitted(scores, 1.0, {**FAR, "fan/B": -10.0}), []
    assert fitted.with_all_of({"fan/A"}, said.append) == {"fan/A": _fit({"fan/A": scores["fan/A"]}, 1.0)["fan/A"]}
    assert [line.split("then: ")[1][:5] for line in said] == ["fan/B", "fan/C"]
    with pytest.raises(UsageError, match=r"fan/C: .*copies") as caught:
        fitted.with_all_of({"fan/A", "fan/C"}, said.append)
    assert "fan/B" not in str(caught.value)


@pytest.mark.parametrize("per_day", [0.0, -1.0, 4_320.0, math.nan])
def test_impossible_target_is_refused(per_day):
    """A rate has to be above zero and below half of all windows."""
    with pytest.raises(UsageError, match="no target"):
        _target(per_day)


def test_ceiling_is_the_score_of_the_most_unlike_other_class():
    """With weights at right angles: own cosine 0 with the margin, another's 1."""
    scorer = MarginScorer(30.0, 0.4, n_classes=3)
    ceiling = score_ceiling(np.eye(3, dtype=np.float32), 1, scorer)
    own = 30.0 * math.cos(math.pi / 2 + 0.4)
    assert ceiling == pytest.approx(30.0 - own, abs=1e-4)

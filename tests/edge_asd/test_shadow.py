"""A new model takes over when it has been as calm as the serving one for the whole period, and otherwise never."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.shadow import COUNTS_AGAIN_S, MAX_PERIODS, Judged, Shadow, ShadowSettings

HOP_S = 1.0
SETTINGS = ShadowSettings(period_s=10.0, max_extra_alarms=1, max_drift=4.0)
CALM = Judged(score=-5.0, threshold=0.0, alarm=False)
LOUD = Judged(score=3.0, threshold=0.0, alarm=True)

scores = st.floats(-50.0, 50.0)
judged = st.builds(Judged, score=scores, threshold=st.floats(-10.0, 10.0), alarm=st.booleans())
windows = st.lists(st.tuples(st.sampled_from(("m1", "m2")), judged, judged), max_size=80)


def heard(shadow: Shadow, pairs, machine: str = "m1"):
    """The verdict after windows of one machine."""
    verdict = None
    for old, new in pairs:
        verdict = shadow.compare(machine, HOP_S, old, new)
    return verdict


def verdict_of(found) -> bool | None:
    """Passed, failed, or None."""
    return None if found is None else found.passed


@given(pairs=st.lists(st.tuples(scores, st.booleans()), min_size=1, max_size=200))
def test_same_model_never_fails(pairs):
    """Whatever the sound, a model that says the same as the serving one is not refused for being heard."""
    shadow = Shadow(SETTINGS, ["m1"])
    said = [Judged(score=score, threshold=0.0, alarm=alarm) for score, alarm in pairs]
    found = heard(shadow, [(one, one) for one in said])
    n_normal = sum(one.score < 0.0 for one in said)
    if n_normal >= SETTINGS.period_s:
        assert verdict_of(found) is True or len(said) >= MAX_PERIODS * SETTINGS.period_s
    assert shadow.compared["m1"].extra_alarms == shadow.compared["m1"].missed_alarms == 0
    assert shadow.compared["m1"].drift == 1.0


def test_verdict_waits_for_every_machine():
    """It falls with the window that completes the period of the last machine, not before."""
    shadow = Shadow(SETTINGS, ["m1", "m2"])
    assert heard(shadow, [(CALM, CALM)] * 30, "m1") is None
    assert heard(shadow, [(CALM, CALM)] * 9, "m2") is None
    assert verdict_of(heard(shadow, [(CALM, CALM)], "m2")) is True


def test_sound_that_the_serving_model_calls_anomalous_does_not_count():
    """A period is one of normal sound."""
    shadow = Shadow(SETTINGS, ["m1"])
    assert heard(shadow, [(CALM, CALM)] * 9 + [(LOUD, LOUD)] * 20) is None
    assert verdict_of(heard(shadow, [(CALM, CALM)])) is True


def test_machine_without_normal_sound_gives_no_pass():
    """After several periods there is nothing to compare by, and the shadow ends."""
    shadow = Shadow(SETTINGS, ["m1"])
    n_most = int(MAX_PERIODS * SETTINGS.period_s)
    assert heard(shadow, [(LOUD, LOUD)] * (n_most - 1)) is None
    found = heard(shadow, [(LOUD, LOUD)])
    assert verdict_of(found) is False
    assert "nothing to judge by" in found.why


def test_alarms_of_its_own_beyond_the_budget_fail_it_at_once():
    """One is within the budget, the second is not; the period need not be over."""
    shadow = Shadow(SETTINGS, ["m1"])
    assert heard(shadow, [(CALM, LOUD), (CALM, CALM)]) is None
    found = heard(shadow, [(CALM, LOUD), (CALM, CALM)])
    assert verdict_of(found) is False
    assert "m1: 2 alarms of its own" in found.why


def test_alarm_that_the_serving_model_shares_is_no_extra_one():
    """Whichever of them is first, as long as they overlap."""
    shadow = Shadow(ShadowSettings(period_s=100.0, max_extra_alarms=0, max_drift=2.0), ["m1"])
    early = [(CALM, LOUD), (LOUD, LOUD), (CALM, CALM)]
    late = [(LOUD, CALM), (LOUD, LOUD), (CALM, LOUD), (CALM, CALM)]
    assert heard(shadow, [*early, *late] * 3) is None
    assert shadow.compared["m1"].extra_alarms == shadow.compared["m1"].missed_alarms == 0


def test_alarm_that_it_misses_is_told_but_not_held_against_it():
    """The serving model's alarms may be the very reason for a new one."""
    shadow = Shadow(SETTINGS, ["m1"])
    found = heard(shadow, [(LOUD, CALM), (CALM, CALM)] * 10)
    assert verdict_of(found) is True
    assert "10 that the model before raised alone" in found.why


def test_alarm_without_end_is_not_one_alarm():
    """It counts again and again, and at the end of the period it fails whatever the budget."""
    settings = ShadowSettings(period_s=10 * COUNTS_AGAIN_S, max_extra_alarms=2, max_drift=100.0)
    shadow = Shadow(settings, ["m1"])
    found = None
    for hours in range(1, 5):
        found = shadow.compare("m1", COUNTS_AGAIN_S, CALM, LOUD)
        if found is not None:
            assert hours == 3
            break
    assert verdict_of(found) is False
    short = Shadow(ShadowSettings(period_s=10.0, max_extra_alarms=5, max_drift=100.0), ["m1"])
    assert "still alarms" in heard(short, [(CALM, LOUD)] * 10).why


@given(ratio=st.floats(-10.0, 10.0).filter(lambda ratio: min(abs(ratio - 4.0), abs(ratio - 0.25)) > 1e-6))
def test_drift_beyond_the_bound_fails_and_within_it_passes(ratio):
    """Near its threshold, or above it, it would alarm falsely; far below it it would sleep through a fault."""
    shadow = Shadow(SETTINGS, ["m1"])
    new = Judged(score=CALM.score * ratio, threshold=0.0, alarm=False)
    found = heard(shadow, [(CALM, new)] * 10)
    assert verdict_of(found) is (0.25 <= ratio <= 4.0)
    if not found.passed:
        assert "times as far below its threshold" in found.why


@given(scale=st.floats(0.01, 100.0))
def test_scale_of_the_scores_does_not_count(scale):
    """Two models whose scores are both so many times as large are judged alike."""
    shadow = Shadow(SETTINGS, ["m1"])
    old, new = (Judged(score=-size * scale, threshold=scale, alarm=False) for size in (5.0, 9.0))
    assert verdict_of(heard(shadow, [(old, new)] * 10)) is True
    assert shadow.compared["m1"].drift == pytest.approx(10.0 / 6.0)


@given(said=windows, shift=st.floats(-100.0, 100.0))
def test_only_scores_against_their_thresholds_count(said, shift):
    """A model whose scores and threshold lie elsewhere altogether is compared alike, but for rounding."""
    settings = ShadowSettings(period_s=1e6, max_extra_alarms=10_000, max_drift=4.0)
    plain, shifted = (Shadow(settings, ["m1", "m2"]) for _ in range(2))
    for machine, old, new in said:
        moved = Judged(score=new.score + shift, threshold=new.threshold + shift, alarm=new.alarm)
        plain.compare(machine, HOP_S, old, new)
        shifted.compare(machine, HOP_S, old, moved)
    for machine, found in plain.compared.items():
        assert shifted.compared[machine].new_margin_sum == pytest.approx(found.new_margin_sum, abs=1e-6)
        assert shifted.compared[machine].extra_alarms == found.extra_alarms


@given(said=windows)
def test_nothing_passes_ahead_of_its_period_or_beyond_its_budget(said):
    """For any scores at all."""
    shadow = Shadow(SETTINGS, ["m1", "m2"])
    normal_s = {"m1": 0.0, "m2": 0.0}
    for machine, old, new in said:
        found = shadow.compare(machine, HOP_S, old, new)
        normal_s[machine] += HOP_S if old.score < old.threshold else 0.0
        if found is not None:
            if found.passed:
                assert min(normal_s.values()) >= SETTINGS.period_s
                assert all(c.extra_alarms <= SETTINGS.max_extra_alarms for c in shadow.compared.values())
                assert all(0.25 <= c.drift <= 4.0 for c in shadow.compared.values())
            assert shadow.compare(machine, HOP_S, LOUD, CALM) == found  # it stands
            return


@given(said=windows)
def test_verdict_does_not_depend_on_how_machines_take_turns(said):
    """Only the order within a machine counts for what was compared, as long as nothing has failed."""
    settings = ShadowSettings(period_s=1e6, max_extra_alarms=10_000, max_drift=1e6)
    in_turn, one_by_one = Shadow(settings, ["m1", "m2"]), Shadow(settings, ["m1", "m2"])
    for machine, old, new in said:
        in_turn.compare(machine, HOP_S, old, new)
    for machine, old, new in sorted(said, key=lambda window: window[0]):
        one_by_one.compare(machine, HOP_S, old, new)
    assert in_turn.compared == one_by_one.compared


@given(said=windows, cut=st.integers(0, 80))
def test_shadow_goes_on_where_it_left_off(said, cut):
    """Over a restart of the daemon; alarms that are active at the cut begin anew, so none are here."""
    calm = [
        (machine, Judged(score=old.score, threshold=old.threshold, alarm=False),
         Judged(score=new.score, threshold=new.threshold, alarm=False))
        for machine, old, new in said
    ]  # fmt: skip
    whole, first = Shadow(SETTINGS, ["m1", "m2"]), Shadow(SETTINGS, ["m1", "m2"])
    verdicts = [whole.compare(machine, HOP_S, old, new) for machine, old, new in calm]
    if any(verdict is not None for verdict in verdicts[:cut]):
        return
    for machine, old, new in calm[:cut]:
        first.compare(machine, HOP_S, old, new)
    second = Shadow(SETTINGS, ["m1", "m2"], first.compared)
    assert [second.compare(machine, HOP_S, old, new) for machine, old, new in calm[cut:]] == verdicts[cut:]


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_new_model_without_a_score_fails_and_serving_one_says_nothing(score):
    """Where the sound itself cannot be scored, neither is to blame."""
    none = Judged(score=score, threshold=0.0, alarm=False)
    shadow = Shadow(SETTINGS, ["m1"])
    assert heard(shadow, [(none, none), (none, CALM)]) is None
    assert shadow.compared["m1"].heard_s == 0.0
    assert verdict_of(heard(shadow, [(CALM, none)])) is False


@pytest.mark.parametrize(
    "changes",
    [{"period_s": 0.0}, {"period_s": math.nan}, {"max_drift": 1.0}, {"max_drift": math.inf}, {"max_extra_alarms": -1}],
)
def test_impossible_settings_are_refused(changes):
    """By name."""
    with pytest.raises(ValueError, match=next(iter(changes))):
        ShadowSettings(**{"period_s": 1.0, "max_extra_alarms": 0, "max_drift": 2.0, **changes})

"""Alarm: delays, deadband, repetition, and a legal life cycle for any scores."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.alarm import Alarm, AlarmSettings
from edge_asd.types import AlarmEvent, MachineState

START_UTC_S = 1_700_000_000.0
BOOT = "449fb65b-2493-48eb-ae22-8560a7b75584"


def feed(alarm: Alarm, scores: list[float], start_s: float = 0.0) -> list[tuple[float, str]]:
    """(time, kind) of the events of one score a second."""
    events = []
    for second, score in enumerate(scores):
        now_s = start_s + second
        events += [(now_s, event.kind) for event in alarm.update(score, now_s, START_UTC_S + now_s)]
    return events


def alarm_with(**settings: float | None) -> Alarm:
    return Alarm("press", AlarmSettings(**settings), threshold=5.0, boot_id=BOOT)


def test_no_delay_raises_and_ends_at_once() -> None:
    """Without delays the first score at the threshold raises, the first one below it ends."""
    alarm = alarm_with()
    assert feed(alarm, [4.9, 5.0, 6.0, 4.9]) == [(1, "new"), (3, "end")]
    assert alarm.state is MachineState.NORMAL


def test_on_delay_must_pass_unbroken() -> None:
    """Scores must stay up for the whole on-delay; one below the threshold starts it afresh."""
    assert feed(alarm_with(on_delay_s=3), [6, 6, 6, 4, 6, 6, 6, 6, 6]) == [(7, "new")]


def test_state_tells_the_on_delay_from_the_alarm() -> None:
    """Learning before any score, normal, warning within the on-delay, alarm, and normal after the end."""
    alarm = alarm_with(on_delay_s=2)
    states = [alarm.state]
    for second, score in enumerate([1, 6, 6, 6, 1]):
        alarm.update(score, second, START_UTC_S + second)
        states.append(alarm.state)
    normal, warning = MachineState.NORMAL, MachineState.WARNING
    assert states == [MachineState.LEARNING, normal, warning, warning, MachineState.ALARM, normal]


def test_off_delay_must_pass_unbroken() -> None:
    """Scores must stay down for the whole off-delay; one above starts it afresh."""
    assert feed(alarm_with(off_delay_s=2), [6, 4, 4, 6, 4, 4, 4]) == [(0, "new"), (6, "end")]


def test_deadband_holds_the_alarm() -> None:
    """Scores between threshold - deadband and threshold neither raise an alarm nor end one."""
    assert feed(alarm_with(deadband=1.0), [4.5, 5.0, 4.5, 4.0, 3.9]) == [(1, "new"), (4, "end")]


def test_re_alarm_repeats_while_active() -> None:
    """An active alarm sends an update each re-alarm time and none after its end."""
    kinds = feed(alarm_with(re_alarm_s=3), [6] * 8 + [1] * 5)
    assert kinds == [(0, "new"), (3, "update"), (6, "update"), (8, "end")]


@pytest.mark.parametrize("never", [None, 0.0])
def test_re_alarm_may_be_off(never: float | None) -> None:
    """Without a re-alarm time an alarm is announced once."""
    assert feed(alarm_with(re_alarm_s=never), [6] * 100) == [(0, "new")]


def test_events_carry_the_alarm() -> None:
    """Events say when the excursion began, how long it is, the score now, the peak and the threshold."""
    alarm = alarm_with(on_delay_s=1)
    alarm.update(7.0, 10.0, START_UTC_S)
    (new,) = alarm.update(6.0, 11.0, START_UTC_S + 1)
    (end,) = alarm.update(2.0, 12.5, START_UTC_S + 2.5)
    expected = AlarmEvent(
        kind="new",
        alarm_id=new.alarm_id,
        began_utc_s=START_UTC_S,
        duration_s=1.0,
        score=6.0,
        peak_score=7.0,
        threshold=5.0,
    )
    assert new == expected
    assert (end.kind, end.alarm_id, end.duration_s, end.score, end.peak_score) == ("end", new.alarm_id, 2.5, 2.0, 7.0)


def test_identity_follows_from_machine_and_time() -> None:
    """The same excursion has the same id again; another machine's has not."""
    ids = []
    for machine in ("press", "press", "saw"):
        (event,) = Alarm(machine, AlarmSettings(), 5.0, boot_id=BOOT).update(6.0, 1.0, START_UTC_S)
        ids.append(event.alarm_id)
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("unknown", [math.nan, math.inf, -math.inf])
def test_unknown_score_is_a_fault_and_not_normal(unknown: float) -> None:
    """A score that is no number turns the state to sensor_fault and starts the on-delay afresh."""
    alarm = alarm_with(on_delay_s=2)
    assert feed(alarm, [1, 6, 6, unknown]) == []
    assert alarm.state is MachineState.SENSOR_FAULT
    assert feed(alarm, [6, 6, 6], start_s=4) == [(6, "new")]


def test_unknown_score_does_not_end_an_alarm() -> None:
    """While an alarm is active, unknown scores neither end nor repeat it, and the off-delay starts afresh."""
    alarm = alarm_with(off_delay_s=2, re_alarm_s=1)
    (new,) = alarm.update(6.0, 0.0, START_UTC_S)
    assert feed(alarm, [math.nan] * 5, start_s=1) == []
    assert (alarm.state, alarm.alarm_id) == (MachineState.SENSOR_FAULT, new.alarm_id)
    kinds = [kind for _, kind in feed(alarm, [1, math.nan, 1, 1, 1], start_s=6)]
    assert kinds == ["update", "update", "update", "end"]


def test_stepped_clock_changes_nothing() -> None:
    """UTC set back an hour during the on-delay leaves the delay to monotonic time."""
    alarm = alarm_with(on_delay_s=2)
    alarm.update(6.0, 0.0, START_UTC_S)
    assert alarm.update(6.0, 1.0, START_UTC_S - 3_600) == []
    (event,) = alarm.update(6.0, 2.0, START_UTC_S - 3_599)
    assert (event.kind, event.duration_s, event.began_utc_s) == ("new", 2.0, START_UTC_S)


def test_time_must_go_on() -> None:
    """A score that is not later than the one before is refused."""
    alarm = alarm_with()
    alarm.update(1.0, 5.0, START_UTC_S)
    with pytest.raises(ValueError, match=r"press is 5\.0"):
        alarm.update(1.0, 5.0, START_UTC_S)


def test_impossible_settings_are_refused() -> None:
    """A threshold or delay that is no number would never alarm: refused at construction."""
    with pytest.raises(ValueError, match="threshold of press is nan"):
        Alarm("press", AlarmSettings(), math.nan, boot_id=BOOT)
    with pytest.raises(ValueError, match="on_delay_s is nan"):
        AlarmSettings(on_delay_s=math.nan)
    with pytest.raises(ValueError, match="deadband is -1"):
        AlarmSettings(deadband=-1.0)

"""Alarm: delays, deadband, repetition, and a legal life cycle for any scores."""

import math

import pytest

from edge_asd.alarm.life_cycle import Alarm, AlarmSettings
from edge_asd.alarm.memory import memory_bytes, parse_memory
from edge_asd.errors import RefusedError
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
    assert feed(alarm, [1, 1, math.nan, 1, 1, 1], start_s=6) == [
        (6, "update"), (7, "update"), (9, "update"), (10, "update"), (11, "end"),
    ]  # fmt: skip


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


def test_gap_neither_counts_for_the_on_delay_nor_starts_it_afresh() -> None:
    """Of 60 s that nobody heard nothing follows; the seconds that were heard ahead of it still count."""
    alarm = alarm_with(on_delay_s=3)
    assert feed(alarm, [6, 6, 6]) == []
    assert alarm.update(6.0, 62.0, START_UTC_S + 62, after_gap=True) == []
    assert alarm.state is MachineState.WARNING
    assert feed(alarm, [6, 6], start_s=63) == [(63, "new")]


def test_on_delay_with_longer_gaps_starts_afresh() -> None:
    """What was heard before a gap of more than 5 minutes says nothing of the machine now."""
    alarm = alarm_with(on_delay_s=2)
    assert feed(alarm, [6, 6]) == []
    assert alarm.update(6.0, 400.0, START_UTC_S, after_gap=True) == []
    assert feed(alarm, [6, 6], start_s=401) == [(402, "new")]


def test_gap_does_not_count_for_the_off_delay() -> None:
    """An alarm ends when scores were low for the off-delay, not when they could have been."""
    alarm = alarm_with(off_delay_s=3)
    assert feed(alarm, [6, 1, 1]) == [(0, "new")]
    assert alarm.update(1.0, 60.0, START_UTC_S, after_gap=True) == []
    assert feed(alarm, [1, 1], start_s=61) == [(62, "end")]


def test_sensor_fault_is_told_and_no_alarm_follows_from_what_was_heard_before_it() -> None:
    """An interruption is a sensor fault at once, and starts the on-delay afresh."""
    alarm = alarm_with(on_delay_s=2)
    feed(alarm, [6, 6])
    alarm.interrupt()
    assert alarm.state is MachineState.SENSOR_FAULT
    assert feed(alarm, [6, 6, 6], start_s=2) == [(4, "new")]


def test_acknowledged_alarm_is_marked_until_it_ends() -> None:
    """Who acknowledges gets an update; later events carry the name, the next alarm does not."""
    alarm = alarm_with(re_alarm_s=10)
    (new,) = alarm.update(6.0, 0.0, START_UTC_S)
    (update,) = alarm.acknowledge(new.alarm_id, by="anna", time_monotonic_s=5.0, time_utc_s=START_UTC_S + 5)
    assert (update.kind, update.alarm_id, update.acknowledged_by, update.duration_s) == (
        "update", new.alarm_id, "anna", 5.0,
    )  # fmt: skip
    (again,) = alarm.update(6.0, 15.0, START_UTC_S + 15)
    (end,) = alarm.update(1.0, 16.0, START_UTC_S + 16)
    assert [(event.kind, event.acknowledged_by) for event in (again, end)] == [("update", "anna"), ("end", "anna")]
    (other,) = alarm.update(6.0, 17.0, START_UTC_S + 17)
    assert other.acknowledged_by is None


def test_acknowledgement_of_another_alarm_is_refused() -> None:
    """An alarm that is over, another one, and one that was acknowledged are told apart."""
    now = {"time_monotonic_s": 5.0, "time_utc_s": START_UTC_S}
    alarm = alarm_with()
    with pytest.raises(RefusedError, match="no alarm is active"):
        alarm.acknowledge("a1", by="anna", **now)
    (new,) = alarm.update(6.0, 5.0, START_UTC_S)
    with pytest.raises(RefusedError, match=f"active alarm is {new.alarm_id}, another"):
        alarm.acknowledge("a1", by="anna", **now)
    alarm.acknowledge(new.alarm_id, by="anna", **now)
    with pytest.raises(RefusedError, match="acknowledged by anna already"):
        alarm.acknowledge(new.alarm_id, by="bert", **now)
    assert alarm.acknowledged_by == "anna"


def test_mute_marks_alarms_until_its_end_and_tells_the_end() -> None:
    """Alarms still come, marked; one that goes on when the mute ends is told again without the mark."""
    alarm = alarm_with()
    assert alarm.mute(10.0, time_monotonic_s=0.0, time_utc_s=START_UTC_S) == []
    (new,) = alarm.update(6.0, 4.0, START_UTC_S + 4)
    assert new.muted_until_utc_s == alarm.muted_until_utc_s == START_UTC_S + 10
    assert alarm.update(6.0, 9.0, START_UTC_S + 9) == []
    (update,) = alarm.update(6.0, 10.0, START_UTC_S + 10)
    assert (update.kind, update.muted_until_utc_s) == ("update", None)
    assert alarm.update(6.0, 11.0, START_UTC_S + 11) == []


@pytest.mark.parametrize("restarted", [False, True])
def test_command_between_a_window_and_its_score_makes_no_time_pass_twice(restarted: bool) -> None:
    """Somebody acknowledges at 11.2 s, and then the window that ended at 11 s is scored."""
    alarm = alarm_with()
    (new,) = alarm.update(6.0, 10.0, START_UTC_S)
    if restarted:
        alarm = Alarm("press", AlarmSettings(), 5.0, boot_id=BOOT, memory=alarm.memory)
    alarm.acknowledge(new.alarm_id, by="anna", time_monotonic_s=11.25, time_utc_s=START_UTC_S + 1.25)
    alarm.update(6.0, 11.0, START_UTC_S + 1)
    (end,) = alarm.update(1.0, 12.0, START_UTC_S + 2)
    assert (end.kind, end.duration_s) == ("end", 2.0)


def test_mute_is_taken_back() -> None:
    """Unmute ends it at once, and is refused where there is none."""
    alarm = alarm_with()
    (new,) = alarm.update(6.0, 0.0, START_UTC_S)
    (muted,) = alarm.mute(600.0, time_monotonic_s=1.0, time_utc_s=START_UTC_S + 1)
    (unmuted,) = alarm.unmute(time_monotonic_s=2.0, time_utc_s=START_UTC_S + 2)
    assert [event.muted_until_utc_s for event in (new, muted, unmuted)] == [None, START_UTC_S + 601, None]
    with pytest.raises(RefusedError, match="not muted"):
        alarm.unmute(time_monotonic_s=3.0, time_utc_s=START_UTC_S + 3)


@pytest.mark.parametrize("jump_s", [-86_400.0, 86_400.0])
def test_mute_lasts_as_long_as_asked_for_over_a_stepped_clock(jump_s: float) -> None:
    """The wall clock is set a day forward or back: the mute goes on for what is left of it."""
    alarm = alarm_with()
    alarm.mute(100.0, time_monotonic_s=0.0, time_utc_s=START_UTC_S)
    alarm.update(1.0, 10.0, START_UTC_S + 10 + jump_s)
    assert alarm.muted_until_utc_s == START_UTC_S + 100 + jump_s
    alarm.update(1.0, 99.0, START_UTC_S + 99 + jump_s)
    assert alarm.muted_until_utc_s is not None
    alarm.update(1.0, 100.0, START_UTC_S + 100 + jump_s)
    assert alarm.muted_until_utc_s is None


def test_alarm_goes_on_after_a_reboot() -> None:
    """Monotonic time starts again; id, beginning, peak and marks stay, and its end refers to it."""
    alarm = alarm_with()
    (new,) = alarm.update(9.0, 50_000.0, START_UTC_S)
    alarm.acknowledge(new.alarm_id, by="anna", time_monotonic_s=50_001.0, time_utc_s=START_UTC_S + 1)
    alarm.mute(3_600.0, time_monotonic_s=50_001.0, time_utc_s=START_UTC_S + 1)
    assert alarm.memory is not None
    memory = parse_memory(memory_bytes(alarm.memory))
    after = Alarm("press", AlarmSettings(), 5.0, boot_id="another", memory=memory)
    assert (after.state, after.alarm_id, after.acknowledged_by) == (MachineState.ALARM, new.alarm_id, "anna")
    assert after.update(6.0, 30.0, START_UTC_S + 600) == []
    assert after.muted_until_utc_s == START_UTC_S + 3_601
    (end,) = after.update(1.0, 31.0, START_UTC_S + 601)
    assert (end.kind, end.alarm_id, end.began_utc_s, end.duration_s) == ("end", new.alarm_id, START_UTC_S, 601.0)
    assert (end.peak_score, end.acknowledged_by) == (9.0, "anna")


def test_reboot_with_the_clock_set_back_does_not_turn_time_around() -> None:
    """Where UTC of the new boot lies before that of the old, the time between is taken as none."""
    alarm = alarm_with()
    alarm.update(9.0, 50_000.0, START_UTC_S)
    after = Alarm("press", AlarmSettings(), 5.0, boot_id="another", memory=alarm.memory)
    (end,) = after.update(1.0, 30.0, START_UTC_S - 86_400)
    assert (end.kind, end.duration_s) == ("end", 0.0)


def test_nothing_to_remember_is_no_memory() -> None:
    """A normal machine that is not muted leaves nothing behind."""
    alarm = alarm_with()
    assert alarm.memory is None
    feed(alarm, [1, 6, 1])
    assert alarm.memory is None


@pytest.mark.parametrize(
    "data", [b"", b"\xff\x00", b"[]", b"{}", b'{"boot_id": "b", "monotonic_s": NaN}', b'{"boot_id": 3}']
)
def test_damaged_memory_is_refused_with_a_reason(data: bytes) -> None:
    """What does not come from memory_bytes is a ValueError that says where."""
    with pytest.raises(ValueError, match=r"\w+: \w+"):
        parse_memory(data)

"""An alarm's life is legal whatever happens: any scores, gaps, faults, commands, restarts and jumps of the clock."""

import math
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.alarm.life_cycle import Alarm, AlarmSettings
from edge_asd.alarm.memory import memory_bytes, parse_memory
from edge_asd.errors import RefusedError
from edge_asd.types import AlarmEvent, MachineState

THRESHOLD = 5.0
START_UTC_S = 1_700_000_000.0
DAY_S = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Score:
    """The next window's score, so long after the one before."""

    score: float
    pause_s: float
    after_gap: bool


@dataclass(frozen=True, kw_only=True)
class ClockStep:
    """Somebody sets the wall clock."""

    by_s: float


@dataclass(frozen=True, kw_only=True)
class Restart:
    """The daemon is killed and comes back, perhaps with the whole device."""

    down_s: float
    reboots: bool


@dataclass(frozen=True, kw_only=True)
class Command:
    """Somebody acknowledges (the active alarm, or one that is over), mutes or unmutes."""

    kind: str
    duration_s: float
    is_stale: bool


class Interrupt:
    """The sensor is at fault."""


pauses = st.floats(0.1, 10.0)
delays = st.sampled_from([0.0, 0.5, 2.0, 7.0])
scores = st.builds(
    Score,
    score=st.one_of(st.floats(2.0, 7.0), st.floats(allow_nan=True)),
    pause_s=st.one_of(pauses, st.floats(200.0, 10_000.0)),
    after_gap=st.booleans(),
)
clock_steps = st.builds(ClockStep, by_s=st.sampled_from([-DAY_S, -3_600.0, -1.0, 1.0, 3_600.0, DAY_S]))
restarts = st.builds(Restart, down_s=st.floats(1.0, 100_000.0), reboots=st.booleans())
commands = st.builds(
    Command,
    kind=st.sampled_from(["acknowledge", "mute", "unmute"]),
    duration_s=st.floats(0.1, 100_000.0),
    is_stale=st.booleans(),
)
alarm_settings = st.builds(
    AlarmSettings, on_delay_s=delays, off_delay_s=delays, deadband=delays, re_alarm_s=st.one_of(st.none(), delays)
)
a_step = st.one_of(scores, scores, scores, clock_steps, restarts, commands, st.builds(Interrupt))


def many(step: st.SearchStrategy[object]) -> st.SearchStrategy[list[object]]:
    """Long lists: without a least length hypothesis draws five steps on average, too few for an alarm's life."""
    return st.one_of(st.lists(step, max_size=10), st.lists(step, min_size=30, max_size=80))


@dataclass
class Device:
    """An alarm among its clocks: what happens goes in, events come out."""

    settings: AlarmSettings
    monotonic_s: float = 1_000.0
    utc_s: float = START_UTC_S
    boot: int = 0
    alarm: Alarm = field(init=False)
    ended: str = "none yet"

    def __post_init__(self) -> None:
        self.alarm = Alarm("press", self.settings, THRESHOLD, boot_id=str(self.boot))

    def pass_time(self, seconds: float) -> None:
        self.monotonic_s += seconds
        self.utc_s += seconds

    def restart(self, down_s: float, *, reboots: bool) -> None:
        memory = self.alarm.memory
        stored = None if memory is None else memory_bytes(memory)
        self.pass_time(down_s)
        if reboots:
            self.boot += 1
            self.monotonic_s = 20.0
        restored = None if stored is None else parse_memory(stored)
        assert restored == memory
        self.alarm = Alarm("press", self.settings, THRESHOLD, boot_id=str(self.boot), memory=restored)

    def obey(self, command: Command) -> list[AlarmEvent]:
        now = {"time_monotonic_s": self.monotonic_s + 0.05, "time_utc_s": self.utc_s + 0.05}
        if command.kind == "mute":
            return self.alarm.mute(command.duration_s, **now)
        if command.kind == "unmute":
            return self.alarm.unmute(**now)
        alarm_id = self.ended if command.is_stale else self.alarm.alarm_id or "none"
        return self.alarm.acknowledge(alarm_id, by="anna", **now)

    def live(self, step: object) -> list[AlarmEvent]:
        """One step; a command that is refused changes nothing."""
        match step:
            case Score():
                self.pass_time(step.pause_s)
                return self.alarm.update(step.score, self.monotonic_s, self.utc_s, after_gap=step.after_gap)
            case ClockStep():
                self.utc_s += step.by_s
            case Restart():
                self.restart(step.down_s, reboots=step.reboots)
            case Command():
                marks = (self.alarm.alarm_id, self.alarm.acknowledged_by, self.alarm.state)
                try:
                    return self.obey(step)
                except RefusedError:
                    assert marks == (self.alarm.alarm_id, self.alarm.acknowledged_by, self.alarm.state)
            case Interrupt():
                self.alarm.interrupt()
        return []


def check_event(event: AlarmEvent, active: AlarmEvent | None, step: object, settings: AlarmSettings) -> None:
    """What an event must be, after the one before of the same alarm (None: none is active)."""
    if event.kind == "new":
        assert active is None
        assert isinstance(step, Score)
        assert event.score >= THRESHOLD
        assert event.duration_s >= settings.on_delay_s - 1e-6
        assert event.acknowledged_by is None
        return
    assert active is not None
    assert (event.alarm_id, event.began_utc_s) == (active.alarm_id, active.began_utc_s)
    assert event.duration_s >= active.duration_s
    assert event.peak_score >= max(active.peak_score, event.score)
    if event.kind == "end":
        assert isinstance(step, Score)
        assert event.score < THRESHOLD - settings.deadband
    if event.acknowledged_by != active.acknowledged_by:
        assert (active.acknowledged_by, event.kind) == (None, "update")
        assert isinstance(step, Command)
        assert (step.kind, step.is_stale) == ("acknowledge", False)


@given(steps=many(a_step), settings=alarm_settings)
@settings(max_examples=300)
def test_whatever_happens_the_life_cycle_is_legal(steps: list[object], settings: AlarmSettings) -> None:
    """new, update*, end, new, ...: ids unique, one active at most, marks by commands alone, state as it must be."""
    device = Device(settings)
    active: AlarmEvent | None = None
    seen = set()
    for step in steps:
        for event in device.live(step):
            check_event(event, active, step, settings)
            if event.kind == "new":
                assert event.alarm_id not in seen
                seen.add(event.alarm_id)
            if event.kind == "end":
                device.ended = event.alarm_id
            active = None if event.kind == "end" else event
        assert device.alarm.alarm_id == (active.alarm_id if active else None)
        if isinstance(step, Score):
            fault, high = not math.isfinite(step.score), step.score >= THRESHOLD
            calm = MachineState.WARNING if high else MachineState.NORMAL
            expected = MachineState.SENSOR_FAULT if fault else MachineState.ALARM if active else calm
            assert device.alarm.state is expected


@given(steps=many(st.one_of(scores, commands)), settings=alarm_settings, data=st.data())
def test_jumps_of_the_clock_change_no_event(steps: list[object], settings: AlarmSettings, data: st.DataObject) -> None:
    """A wall clock that jumps by a day at any moment gives the same events at the same moments, mutes included."""
    steady, jumping = Device(settings), Device(settings)
    for step in steps:
        jumping.live(ClockStep(by_s=data.draw(st.sampled_from([-DAY_S, 0.0, 0.0, DAY_S]))))
        told = []
        for device in (steady, jumping):
            # An alarm that began at another time of day has another id; all else is the same.
            is_muted = device.alarm.muted_until_utc_s is not None
            told.append(
                [replace(event, alarm_id="", began_utc_s=0.0, muted_until_utc_s=None) for event in device.live(step)]
            )
            told[-1].append((is_muted, device.alarm.state, device.alarm.acknowledged_by))
        assert told[0] == told[1]


@given(steps=many(st.one_of(scores, scores, commands, restarts)), settings=alarm_settings)
def test_restart_is_no_more_than_a_gap(steps: list[object], settings: AlarmSettings) -> None:
    """A daemon that is killed after any window raises, repeats and ends the same alarms as one that heard nothing."""
    killed, deaf = Device(settings), Device(settings)
    was_down = False
    for step in steps:
        if isinstance(step, Restart):
            killed.restart(step.down_s, reboots=False)
            deaf.pass_time(step.down_s)
            was_down = True
            continue
        heard = step
        if isinstance(step, Score) and was_down:
            heard = replace(step, after_gap=True)
            was_down = not math.isfinite(step.score)
        assert killed.live(step) == deaf.live(heard)
        assert killed.alarm.memory == deaf.alarm.memory


def test_kill_within_the_on_delay_each_time_does_not_keep_the_alarm_away() -> None:
    """A daemon that never lives for as long as the on-delay still raises the alarm, once."""
    device = Device(AlarmSettings(on_delay_s=5.0))
    kinds = []
    for _ in range(10):
        for _ in range(3):
            kinds += [event.kind for event in device.live(Score(score=6.0, pause_s=1.0, after_gap=False))]
        device.restart(12.0, reboots=False)
    assert kinds == ["new"]


@pytest.mark.parametrize("reboots", [False, True])
def test_mute_does_not_outlast_its_end_over_restarts(reboots: bool) -> None:
    """Time that the device was off or the daemon down counts: a mute is no longer than asked for."""
    device = Device(AlarmSettings())
    device.live(Command(kind="mute", duration_s=3_600.0, is_stale=False))
    for _ in range(4):
        device.restart(800.0, reboots=reboots)
        device.live(Score(score=1.0, pause_s=20.0, after_gap=False))
        assert device.alarm.muted_until_utc_s == pytest.approx(START_UTC_S + 3_600.05)
    device.restart(800.0, reboots=reboots)
    device.live(Score(score=1.0, pause_s=20.0, after_gap=False))
    assert device.alarm.muted_until_utc_s is None

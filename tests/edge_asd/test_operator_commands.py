"""Operators' commands: what is taken, what is refused and why, and that nothing else does any harm."""

import io
import json
import logging
import random
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.alarm.commands import (
    Acknowledge,
    CommandGate,
    CommandInbox,
    Mute,
    ReceivedCommand,
    Unmute,
    parse_command,
)
from edge_asd.errors import RefusedError
from edge_asd.log import LogHandler
from edge_asd.mqtt.link import Received

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=timezone.utc)
NOW_S = NOW.timestamp()
TOPIC = "edge_asd/hall/orin/fan/command"
MUTE = {
    "schema": 1,
    "id": "c1",
    "time_utc": "2026-11-21T09:00:00Z",
    "by": "anna",
    "command": "mute",
    "duration_s": 60,
}


def payload(**changes):
    """A mute, with keys changed; None takes a key away."""
    keys = {key: value for key, value in {**MUTE, **changes}.items() if value is not None}
    return json.dumps(keys).encode()


def received(*, retained=False, **changes):
    return ReceivedCommand(machine="fan", command=parse_command(payload(**changes)), retained=retained)


class Clock:
    """Monotonic seconds, moved by the test."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ignored():
    """One item for each message that was ignored."""
    return []


@pytest.fixture
def inbox(clock, ignored):
    return CommandInbox(ignored=lambda: ignored.append(1), monotonic_s=clock)


def test_each_command_is_understood():
    """The three commands with what belongs to each."""
    assert isinstance(parse_command(payload()), Mute)
    assert isinstance(parse_command(payload(command="unmute", duration_s=None)), Unmute)
    acknowledge = parse_command(payload(command="acknowledge", duration_s=None, alarm_id="a1"))
    assert isinstance(acknowledge, Acknowledge)
    assert (acknowledge.alarm_id, acknowledge.by, acknowledge.time_utc) == ("a1", "anna", NOW)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "expected JSON"),
        (b"\xff\xfe", "expected JSON"),
        (b"[" * 3_000, "expected JSON"),
        (b"[]", "the whole: Input should be an object"),
        (b"x" * 5_000, "longer than 4096 bytes"),
        (b"{}", "expected acknowledge, mute or unmute"),
        (payload(command="reboot"), "expected acknowledge, mute or unmute"),
        (payload(volume=11), "a key that is not of the contract"),
        (payload(schema=2), "schema: "),
        (payload(id="a b"), "id: "),
        (payload(id=7), "id: "),
        (payload(time_utc="2026-11-21T09:00:00"), "time_utc: "),
        (payload(time_utc="yesterday"), "time_utc: "),
        (payload(time_utc=1_795_252_000), "time_utc: "),
        (payload(by=""), "by: "),
        (payload(by="anna\x1b[2J"), "by: "),
        (payload(by="a" * 65), "by: "),
        (payload(duration_s=0), "duration_s: "),
        (payload(duration_s=1e9), "duration_s: "),
        (payload(duration_s="60"), "duration_s: "),
        (payload().replace(b"60", b"NaN"), "duration_s: |expected JSON"),
        (payload(command="acknowledge"), "not of the contract|alarm_id: "),
    ],
)
def test_what_is_no_command_is_told_by_kind(data, why):
    """The reason says what was expected and repeats nothing of the payload."""
    with pytest.raises(ValueError, match=why) as caught:
        parse_command(data)
    assert "volume" not in str(caught.value)
    assert "reboot" not in str(caught.value)


def test_repeated_command_is_refused_over_a_restart_too():
    """QoS 1 may deliver twice, and whoever records the traffic may play it again."""
    gate = CommandGate()
    gate.admit(received(), utc_s=NOW_S, clock_synced=True)
    with pytest.raises(RefusedError, match="came before"):
        gate.admit(received(), utc_s=NOW_S, clock_synced=True)
    after = CommandGate(gate.record)
    with pytest.raises(RefusedError, match="came before"):
        after.admit(received(), utc_s=NOW_S, clock_synced=True)
    after.admit(received(id="c2"), utc_s=NOW_S, clock_synced=True)


@pytest.mark.parametrize(
    ("late_s", "why"), [(61.0, "given 61 s before"), (-3_600.0, "given 3600 s after"), (86_400.0, "stale")]
)
def test_stale_command_is_refused(late_s, why):
    """What waited somewhere on its way, or comes from a wrong clock, is not obeyed; another copy in time is."""
    gate = CommandGate()
    with pytest.raises(RefusedError, match=why):
        gate.admit(received(), utc_s=NOW_S + late_s, clock_synced=True)
    gate.admit(received(), utc_s=NOW_S + 59.0, clock_synced=True)


def test_age_is_not_judged_by_a_wrong_clock():
    """A device whose clock is not synchronised can be muted all the same."""
    gate = CommandGate()
    gate.admit(received(), utc_s=0.0, clock_synced=False)
    assert gate.record is not None


def test_retained_command_is_refused():
    """It would be obeyed anew after each connection; what it says is not remembered as obeyed either."""
    gate = CommandGate()
    with pytest.raises(RefusedError, match="retained"):
        gate.admit(received(retained=True), utc_s=NOW_S, clock_synced=True)
    gate.admit(received(), utc_s=NOW_S, clock_synced=True)


def test_no_more_commands_are_remembered_than_needed():
    """The record does not grow, and nothing to remember is no record."""
    gate = CommandGate()
    assert gate.record is None
    sizes = []
    for number in range(1_000):
        gate.admit(received(id=f"c{number:04}"), utc_s=NOW_S, clock_synced=True)
        sizes.append(len(gate.record))
    assert max(sizes) == sizes[-1] < 1_000


@given(record=st.binary(max_size=100))
def test_record_that_is_damaged_is_none(record):
    """Whatever the disk made of it, commands can come."""
    gate = CommandGate(record)
    gate.admit(received(), utc_s=NOW_S, clock_synced=True)
    fresh = CommandGate()
    fresh.admit(received(), utc_s=NOW_S, clock_synced=True)
    assert gate.record == fresh.record


def test_commands_are_handed_over_in_order(inbox):
    """From the publisher's thread to the one that scores."""
    for number in range(3):
        inbox.receive(Received(topic=TOPIC, payload=payload(id=f"c{number}"), retained=number == 2))
    assert [(taken.machine, taken.command.id, taken.retained) for taken in inbox.take()] == [
        ("fan", "c0", False),
        ("fan", "c1", False),
        ("fan", "c2", True),
    ]
    assert list(inbox.take()) == []


def test_flood_of_commands_is_bounded_and_counted(inbox, clock, ignored):
    """Each answer costs a message and a disk write: 16 at once and 2 a second, 64 wait, the others are ignored."""
    for number in range(1_000):
        inbox.receive(Received(topic=TOPIC, payload=payload(id=f"c{number}"), retained=False))
    assert len(ignored) == 1_000 - 64
    assert len(list(inbox.take())) == 16
    assert list(inbox.take()) == []
    clock.now_s += 1.0
    assert len(list(inbox.take())) == 2
    clock.now_s += 3_600.0
    assert len(list(inbox.take())) == 16


def altered(draw):
    """A payload that somebody's mistake or malice could send."""
    whole = payload(
        id=f"c{draw.randrange(10**9)}",
        command=draw.choice(["mute", "mute", "acknowledge", "stop"]),
        duration_s=draw.choice([None, 60, 60, -1, 1e300]),
        alarm_id=draw.choice([None, None, "a1", "../../etc/passwd"]),
        by=draw.choice(["anna", "Zoë", "", "\x00", "x" * 100]),
    )
    match draw.randrange(5):
        case 0:
            return draw.randbytes(draw.randrange(200))
        case 1:
            return whole[: draw.randrange(len(whole))]
        case 2:
            return draw.choice([b"[" * 2_000, b'{"a":' * 700, b"-" * 5_000, b"1e999999", b'"\\ud800"'])
        case 3:
            return whole
    at = draw.randrange(len(whole))
    return whole[:at] + bytes([draw.randrange(256)]) + whole[at + 1 :]


def test_random_payloads_harm_nothing_are_counted_and_fill_no_log(inbox, ignored):
    """Of 10,000, each is taken as a command or counted; the log has a few lines."""
    stream = io.StringIO()
    handler = LogHandler(stream)
    logger = logging.getLogger("edge_asd.alarm.commands")
    logger.addHandler(handler)
    draw = random.Random(7)
    taken = empty = 0
    try:
        for _ in range(10_000):
            data = altered(draw)
            empty += not data
            inbox.receive(Received(topic=TOPIC, payload=data, retained=False))
            taken += sum(command.machine == "fan" for command in inbox.take())
    finally:
        logger.removeHandler(handler)
        handler.close()
    waiting = 10_000 - len(ignored) - taken - empty
    assert 0 <= waiting <= 64
    assert len(ignored) > 8_000
    assert taken == 16  # of the few hundred that are commands: the clock stands still
    assert len(stream.getvalue().splitlines()) < 100

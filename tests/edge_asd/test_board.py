"""The picture of all devices: what is shown, what is dropped as a repeat, what is not understood."""

import json
from dataclasses import replace

import pytest
from rich.console import Console

from edge_asd.board import Board
from edge_asd.messages import Messages, ModelIdentity, Moment, Topics, payload_bytes
from edge_asd.types import AlarmEvent, MachineState, SpooledMessage

NOW_S = 1_767_225_600.0
TOPICS = Topics(site="hall", device="orin")
MESSAGES = Messages(model=ModelIdentity(name="bldc", version="1", sha256="0" * 64), boot_id="b" * 36)


class Device:
    """Numbers messages as a spool does and lets a board hear them."""

    def __init__(self, board, topics=TOPICS):
        self._board = board
        self._topics = topics
        self._seq = 0

    def say(self, message, *, seq=None, historical=False, **more):
        """Lets the board hear a message under the next number, or under the given one."""
        self._seq = seq or self._seq + 1
        spooled = SpooledMessage(
            row_id=1,
            machine=message.machine,
            leaf=message.leaf,
            retain=message.retain,
            payload={**message.payload, "seq": self._seq, **more},
        )
        topic = self._topics.of(message.machine, message.leaf)
        return self._board.hear(topic, payload_bytes(spooled, historical=historical))


def at(seconds_ago=0.0):
    return Moment(utc_s=NOW_S - seconds_ago, monotonic_s=1.0, clock_synced=True)


def score(value, machine="fan", seconds_ago=0.0):
    return MESSAGES.score(
        machine, at(seconds_ago), score=value, threshold=1.5, coverage=1.0, latency_ms=5.0, engine="fake"
    )


def state(new, machine="fan", **marks):
    return MESSAGES.state(machine, at(), state=new, previous=None, reason="", alarm_id=None, **marks)


def alarm(kind, *, alarm_id="a1", began_s=NOW_S - 300.0, duration_s=42.0, machine="fan", **marks):
    event = AlarmEvent(
        kind=kind,
        alarm_id=alarm_id,
        began_utc_s=began_s,
        duration_s=duration_s,
        score=2.0,
        peak_score=3.25,
        threshold=1.5,
        **marks,
    )
    return MESSAGES.alarm(machine, at(), event)


def text_of(board):
    """The picture as a terminal of 140 columns shows it, without colours; one list of words a line."""
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123 (a sink for the test)
    console.print(board.picture(NOW_S))
    return [line.split() for line in console.export_text().splitlines()]


def test_empty_board_says_so():
    """A broker without devices is not a blank screen."""
    assert text_of(Board()) == [["no", "device", "heard", "yet"]]


def test_machine_is_shown_with_state_score_threshold_and_age():
    """One line a machine, under its device's availability."""
    board = Board()
    device = Device(board)
    board.hear(TOPICS.availability, b"online")
    device.say(state(MachineState.WARNING))
    device.say(score(0.5, seconds_ago=5.0))
    device.say(score(2.0, seconds_ago=4.0))
    assert ["hall/orin", "online", "fan", "warning", "2.00", "1.50", "▁█", "4", "s"] in text_of(board)


def test_score_that_waited_is_marked_old():
    """What comes out of a spool after an outage must not pass for the present."""
    board = Board()
    Device(board).say(score(0.5, seconds_ago=3_600.0 * 5), historical=True)
    assert text_of(board)[-2][-3:] == ["5", "h", "old"]


def test_alarm_is_shown_once_from_new_to_end():
    """The steps of one alarm share a line; the latest alarm comes first."""
    board = Board()
    device = Device(board)
    device.say(alarm("new", alarm_id="a1"))
    device.say(alarm("new", alarm_id="a2", machine="pump", began_s=NOW_S - 60.0))
    lines = [line for line in text_of(board) if line and line[0].startswith("hall/orin/")]
    assert [line[0] for line in lines] == ["hall/orin/pump", "hall/orin/fan"]
    assert lines[1][1:] == ["23:55:00", "5", "min", "goes", "on", "3.25", "1.50"]
    device.say(alarm("end", alarm_id="a1"))
    lines = [line for line in text_of(board) if line and line[0].startswith("hall/orin/")]
    assert lines[0] == ["hall/orin/fan", "23:55:00", "5", "min", "42", "s", "3.25", "1.50"]
    assert len(lines) == 2


def test_what_people_said_of_an_alarm_is_shown():
    """Who has seen it, and that its machine is muted, until the next message says otherwise."""
    board = Board()
    device = Device(board)
    device.say(alarm("update", acknowledged_by="anna [boss]", muted_until_utc_s=NOW_S + 60.0))
    device.say(state(MachineState.ALARM, muted_until_utc_s=NOW_S + 60.0))
    device.say(score(2.0))
    assert any(line[-6:] == ["1.50", "seen", "by", "anna", "[boss],", "muted"] for line in text_of(board))
    assert any(line[2:5] == ["fan", "alarm", "muted"] for line in text_of(board))
    device.say(alarm("update", acknowledged_by="anna"))
    device.say(state(MachineState.ALARM))
    assert not any("muted" in line for line in text_of(board))


def test_messages_without_marks_are_understood():
    """A device with an older version has nothing to say of them."""
    board = Board()
    device = Device(board)
    for message in (alarm("new"), state(MachineState.ALARM)):
        older = {
            key: value for key, value in message.payload.items() if key not in {"acknowledged_by", "muted_until_utc"}
        }
        device.say(replace(message, payload=older))
    assert board.foreign == 0
    assert any("goes" in line for line in text_of(board))


def test_command_to_a_machine_is_no_message_of_a_device():
    """Who watches everything hears commands too; they are not counted as something that is not understood."""
    board = Board()
    assert board.hear(TOPICS.command("fan"), b"{}") is None
    assert board.foreign == 0


def test_repeats_are_dropped_by_device_machine_and_number():
    """The same number counts once a machine, and for each machine and device on its own."""
    board = Board()
    device = Device(board)
    other = Device(board, Topics(site="hall", device="other"))
    assert device.say(score(1.0), seq=7) is not None
    assert device.say(score(1.0), seq=7) is None
    assert device.say(score(1.0, machine="pump"), seq=7) is not None
    assert other.say(score(1.0), seq=7) is not None
    assert board.repeats == 1


def test_numbers_that_start_anew_are_heard():
    """A device that was set up afresh is not silenced by what was heard before."""
    board = Board()
    device = Device(board)
    for number in range(5_000, 7_000):
        device.say(score(1.0), seq=number)
    assert device.say(score(1.0), seq=1) is not None


def test_announced_losses_are_shown_at_the_device():
    """What health says was lost is added up."""
    board = Board()
    device = Device(board)
    message = MESSAGES.health(
        at(),
        versions={},
        engine="fake",
        engine_trouble=None,
        uptime_s=1.0,
        clock_max_error_ms=None,
        counters={},
        machine_counters={},
        spool={},
    )
    board.hear(TOPICS.availability, b"online")
    device.say(message, drops=[{"machine": "fan", "from": 3, "to": 9, "count": 7, "why": "the message spool was full"}])
    assert ["hall/orin", "online", "7", "lost"] in text_of(board)


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("edge_asd/hall/orin/fan/volume", b"{}"),
        ("edge_asd/hall/orin/fan/score", b"not json"),
        ("edge_asd/hall/orin/fan/score", b"\xff"),
        ("edge_asd/hall/orin/fan/score", b"[]"),
        ("edge_asd/hall/orin/fan/score", b'{"seq": 1, "score": "loud"}'),
        ("edge_asd/hall/orin/fan/score", b'{"seq": 1, "score": 1.0, "threshold": 1.5}'),
        ("edge_asd/hall/orin/fan/state", b'{"seq": 1}'),
        ("edge_asd/hall/orin/fan/alarm", b'{"seq": 1, "id": "a", "began_utc": "yesterday"}'),
        ("edge_asd/hall/orin/health", b'{"seq": 1, "drops": 3}'),
        ("edge_asd/hall/orin/health", b'{"seq": 1, "drops": [{"count": "many"}]}'),
        ("edge_asd/hall/orin/availability", b"\xff"),
    ],
)
def test_what_is_not_of_the_contract_is_counted_and_shows_nothing(topic, payload):
    """Anyone may publish on a broker; nothing of it ends the watch."""
    board = Board()
    assert board.hear(topic, payload) is None
    assert board.foreign == 1
    assert text_of(board) == [["no", "device", "heard", "yet"]]


def test_escape_sequences_do_not_reach_the_terminal():
    """Whoever may publish on the broker does not command the terminal of who watches."""
    board = Board()
    device = Device(board)
    device.say(alarm("new", acknowledged_by="a\x1b[2Jnna"))
    message = state(MachineState.ALARM)
    device.say(replace(message, payload={**message.payload, "state": "al\x1b]0;arm\x07"}))
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123 (a sink for the test)
    console.print(board.picture(NOW_S))
    text = console.export_text()
    assert "\x1b" not in text
    assert "seen by a\N{REPLACEMENT CHARACTER}[2Jnna" in text


def test_names_are_shown_as_they_are():
    """A name with brackets is no markup for the terminal."""
    board = Board()
    Device(board, Topics(site="[red]", device="x")).say(score(1.0, machine="[bold]"))
    assert text_of(board)[-2][:3] == ["[red]/x", "?", "[bold]"]


def test_heard_message_carries_its_address_and_payload():
    """What --json prints is what came over the wire."""
    heard = Device(Board()).say(score(1.0))
    assert (heard.address.site, heard.address.machine, heard.address.leaf) == ("hall", "fan", "score")
    assert heard.payload["score"] == 1.0
    assert json.loads(json.dumps(heard.payload))["historical"] is False

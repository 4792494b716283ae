"""One machine's alarm among its messages: what is said, answered, and known again after a restart."""

import json

import numpy as np
import pytest

from edge_asd.alarm.commands import ReceivedCommand, parse_command
from edge_asd.alarm.life_cycle import AlarmSettings
from edge_asd.counters import Counters
from edge_asd.daemon.machine_alarm import MachineAlarm
from edge_asd.messages import Messages, ModelIdentity, Moment
from edge_asd.outbox import Outbox
from edge_asd.types import Window

TIME_UTC = "2026-11-21T09:00:00Z"
START_UTC_S = 1_795_252_000.0
MESSAGES = Messages(model=ModelIdentity(name="bldc", version="1", sha256="0" * 64), boot_id="b" * 36)
WAVE = np.zeros(1, dtype=np.float32)


class Machine:
    """A machine whose scores the test makes up, one a second, with a spool on disk."""

    def __init__(self, folder, **settings):
        self.folder = folder
        self.counters = Counters(("fan",))
        self.settings = AlarmSettings(**settings)
        self.now_s = 1_000.0
        self.outbox = None
        self.start()

    def start(self):
        """Begin as a daemon does: with what the spool knows."""
        self.outbox = Outbox(self.folder / "spool.sqlite", max_bytes=1_000_000)
        self.alarm = MachineAlarm("fan", self.settings, 5.0, messages=MESSAGES, counters=self.counters)
        self.alarm.restore(self.outbox.records())

    def kill(self):
        """End as a SIGKILL does, after what was committed."""
        self.outbox.close()

    @property
    def at(self):
        return Moment(utc_s=START_UTC_S + self.now_s, monotonic_s=self.now_s, clock_synced=True)

    def score(self, *scores, fault=None):
        """Messages that follow from the scores, committed."""
        said = []
        for score in scores:
            self.now_s += 1.0
            window = Window(
                wave=WAVE,
                end_monotonic_s=self.now_s,
                end_utc_s=START_UTC_S + self.now_s,
                fresh_samples=1,
                heard_samples=1,
                lost_samples=0,
            )
            events = self.alarm.update(score, window)
            said += self.commit(self.alarm.tell(self.at, events, reason=f"score {score}", fault=fault))
        return said

    def command(self, word, *, command_id="c1", **more):
        """Messages that answer a command given now."""
        keys = {"schema": 1, "id": command_id, "time_utc": TIME_UTC, "by": "anna", "command": word, **more}
        command = parse_command(json.dumps(keys).encode())
        now = command.time_utc.timestamp()
        at = Moment(utc_s=now, monotonic_s=self.now_s, clock_synced=True)
        received = ReceivedCommand(machine="fan", command=command, retained=False)
        return self.commit(self.alarm.obey(received, at))

    def commit(self, messages):
        self.outbox.put_many(messages, records=self.alarm.records)
        return [(message.leaf, message.payload) for message in messages]


def kinds(said):
    """What was said, in short: the event of an alarm, the state and its marks."""
    return [
        payload["event"]
        if leaf == "alarm"
        else (payload["state"], payload["acknowledged_by"], payload["muted_until_utc"] is not None)
        for leaf, payload in said
    ]


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path)
    yield machine
    machine.outbox.close()


def test_state_is_told_when_it_changes_and_after_a_start(machine):
    """Once a change, with the alarm's id while there is one."""
    said = machine.score(1, 1, 6, 6, 1)
    assert kinds(said) == [("normal", None, False), "new", ("alarm", None, False), "end", ("normal", None, False)]
    states = [payload for leaf, payload in said if leaf == "state"]
    assert [state["previous"] for state in states] == [None, "normal", "alarm"]
    assert states[1]["alarm_id"] == said[1][1]["id"]
    assert states[2]["alarm_id"] is None


def test_alarm_goes_on_after_a_kill_under_its_id(machine):
    """No second `new`; the first state says that it goes on, and the end refers to it."""
    new = machine.score(6)[0][1]
    machine.command("acknowledge", alarm_id=new["id"])
    machine.kill()
    machine.start()
    said = machine.score(6, 1)
    assert kinds(said) == [("alarm", "anna", False), "end", ("normal", None, False)]
    assert (said[0][1]["previous"], said[0][1]["alarm_id"], said[1][1]["id"]) == (None, new["id"], new["id"])
    assert said[1][1]["acknowledged_by"] == "anna"


def test_sensor_fault_is_told_while_an_alarm_goes_on(machine):
    """The alarm stays, by its id in the state; each kind of fault is told, each once."""
    new = machine.score(6)[0][1]
    said = machine.score(*[float("nan")] * 3, fault="silence") + machine.score(float("nan"), fault="dc")
    assert kinds(said) == [("sensor_fault", None, False)] * 2
    assert {payload["alarm_id"] for _, payload in said} == {new["id"]}
    assert machine.counters.totals()["sensor_faults"] == 1
    said = machine.commit(machine.alarm.resume(machine.at, reason="sound is back"))
    assert kinds(said + machine.score(6)) == [("learning", None, False), ("alarm", None, False)]


def test_each_command_is_answered_in_the_state(machine):
    """Obeyed or refused, under its id, with the reason; an active alarm says its marks in an update."""
    new = machine.score(6)[0][1]
    said = machine.command("acknowledge", alarm_id=new["id"])
    assert kinds(said) == ["update", ("alarm", "anna", False)]
    assert said[1][1]["command"] == {"id": "c1", "accepted": True, "reason": None}
    said = machine.command("mute", duration_s=60, command_id="c2")
    assert kinds(said) == ["update", ("alarm", "anna", True)]
    said = machine.command("mute", duration_s=60, command_id="c2")
    assert kinds(said) == [("alarm", "anna", True)]
    assert said[0][1]["command"] == {"id": "c2", "accepted": False, "reason": "it came before"}
    said = machine.command("acknowledge", alarm_id="other", command_id="c3")
    assert f"the active alarm is {new['id']}" in said[0][1]["command"]["reason"]
    assert kinds(machine.command("unmute", command_id="c4")) == ["update", ("alarm", "anna", False)]
    totals = machine.counters.totals()
    assert (totals["commands_obeyed"], totals["commands_refused"]) == (3, 2)
    assert [payload["command"] for leaf, payload in machine.score(1) if leaf == "state"] == [None]


def test_mute_survives_a_kill_and_its_end_is_told(machine):
    """A machine without an alarm says that it is muted no more, too."""
    machine.score(1)
    assert kinds(machine.command("mute", duration_s=20)) == [("normal", None, True)]
    machine.kill()
    machine.now_s += 5
    machine.start()
    assert kinds(machine.score(1)) == [("normal", None, True)]
    assert kinds(machine.score(*[1] * 20)) == [("normal", None, False)]


def test_repeated_command_is_refused_after_a_kill_too(machine):
    """Whoever records a command and plays it to the daemon that comes back is refused."""
    machine.command("mute", duration_s=60)
    machine.kill()
    machine.start()
    (answer,) = machine.command("mute", duration_s=60)
    assert answer[1]["command"]["reason"] == "it came before"


def test_limits_may_change_under_an_alarm_that_goes_on(machine):
    """A reloaded configuration ends no alarm by itself, and the new threshold counts from the next score on."""
    new = machine.score(6)[0][1]
    machine.alarm.adjust(AlarmSettings(), 10.0)
    leaf, end = machine.score(6)[0]
    assert (leaf, end["event"], end["id"], end["threshold"]) == ("alarm", "end", new["id"], 10.0)


@pytest.mark.parametrize("record", [b"", b"\x00", b"{}", b'{"boot_id": "b"}'])
def test_damaged_record_is_reported_and_the_machine_is_heard_all_the_same(machine, record, caplog):
    """What the disk altered costs the memory of one alarm, not the daemon."""
    machine.score(6)
    machine.outbox.put_many([], records={"alarm/fan": record})
    machine.kill()
    machine.start()
    assert "fan: what was known of its alarm cannot be read" in caplog.text
    assert kinds(machine.score(6)) == ["new", ("alarm", None, False)]


def test_record_of_a_normal_machine_takes_no_room(machine):
    """What is over is forgotten: the spool does not grow with each alarm."""
    machine.score(6, 1)
    assert machine.outbox.records() == {}

"""edge-asd alarm against a real broker and the real receiving side of a device, without its sound."""

import json
import random
import threading
import time

import numpy as np
import paho.mqtt.client as paho
import pytest
import yaml
from paho.mqtt.enums import CallbackAPIVersion

from edge_asd.alarm.life_cycle import AlarmSettings
from edge_asd.cli import main
from edge_asd.commands import alarm as alarm_command
from edge_asd.config import load_config
from edge_asd.counters import Counters
from edge_asd.daemon.delivery import Delivery
from edge_asd.daemon.machine_alarm import MachineAlarm
from edge_asd.messages import Messages, ModelIdentity, Moment
from edge_asd.types import Window

MESSAGES = Messages(model=ModelIdentity(name="bldc", version="1", sha256="0" * 64), boot_id="b" * 36)
WAVE = np.zeros(1, dtype=np.float32)
TOPIC = "edge_asd/hall/orin/fan/command"


class Device:
    """What a daemon does but for hearing: scores that the test makes up in, commands obeyed, messages delivered."""

    def __init__(self, folder, broker, *, site="hall"):
        path = folder / f"{site}.yaml"
        keys = {
            "schema": 1,
            "site": site,
            "device": "orin",
            "bundle": "none.asd",
            "state_dir": f"state-{site}",
            "machines": [{"name": "fan", "listens_to": "bldc/M1"}],
            "mqtt": {"url": broker.url},
        }
        path.write_text(yaml.safe_dump(keys))
        self.counters = Counters(("fan",))
        self.delivery = Delivery(load_config(path, files_must_exist=False), counters=self.counters)
        self.alarm = MachineAlarm("fan", AlarmSettings(), 5.0, messages=MESSAGES, counters=self.counters)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._obey)
        self._thread.start()

    def score(self, score):
        at = self.now()
        window = Window(
            wave=WAVE,
            end_monotonic_s=at.monotonic_s,
            end_utc_s=at.utc_s,
            fresh_samples=1,
            heard_samples=1,
            lost_samples=0,
        )
        with self._lock:
            self.put(self.alarm.tell(at, self.alarm.update(score, window), reason=""))

    def put(self, messages):
        self.delivery.put(messages, records=self.alarm.records)

    def now(self):
        return Moment(utc_s=time.time(), monotonic_s=time.monotonic(), clock_synced=True)

    def end(self):
        self._ended.set()
        self._thread.join()
        self.delivery.close()

    def _obey(self):
        while not self._ended.wait(0.02):
            with self._lock:
                for received in self.delivery.commands():
                    self.put(self.alarm.obey(received, self.now()))


@pytest.fixture
def make_device(tmp_path, mosquitto):
    """A function that makes devices; each is of another site."""
    made = []

    def make(**keys):
        made.append(Device(tmp_path, mosquitto, **keys))
        return made[-1]

    yield make
    for device in made:
        device.end()


@pytest.fixture
def device(make_device, wait_until):
    device = make_device()
    wait_until(lambda: device.delivery.broker.connected)
    return device


@pytest.fixture
def say(mosquitto):
    """A function that publishes, QoS 1."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect(mosquitto.host, mosquitto.port)
    client.loop_start()
    yield lambda topic, payload, **how: client.publish(topic, payload, qos=1, **how).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


def run(mosquitto, *words):
    return main(["alarm", *words, "--url", mosquitto.url])


def test_alarm_is_acknowledged_and_its_machine_muted_and_unmuted(mosquitto, device, subscribe, capsys):
    """Each command is obeyed and answered; the active alarm tells each of its marks."""
    subscriber = subscribe(mosquitto)
    device.score(9.0)
    assert run(mosquitto, "acknowledge", "fan", "--by", "anna") == 0
    assert run(mosquitto, "mute", "fan", "--for", "30m", "--by", "anna") == 0
    assert run(mosquitto, "unmute", "fan", "--by", "bert") == 0
    heard = subscriber.wait_for(lambda heard: len([one for one in heard if one.leaf == "alarm"]) == 4)
    alarms = [one.payload for one in heard if one.leaf == "alarm"]
    assert [(alarm["event"], alarm["acknowledged_by"], bool(alarm["muted_until_utc"])) for alarm in alarms] == [
        ("new", None, False),
        ("update", "anna", False),
        ("update", "anna", True),
        ("update", "anna", False),
    ]
    assert [alarm["seq"] for alarm in alarms] == [1, 3, 5, 7]
    assert capsys.readouterr().out.splitlines() == [
        f"hall/orin/fan: alarm {alarms[0]['id']} acknowledged by anna",
        "hall/orin/fan: muted for 1800 s by anna",
        "hall/orin/fan: unmuted by bert",
    ]


def test_refusal_is_exit_code_1_with_the_reason_of_the_device(mosquitto, device, capsys):
    """Nothing to acknowledge, acknowledged before, not muted."""
    device.score(1.0)
    assert run(mosquitto, "acknowledge", "fan") == 1
    device.score(9.0)
    assert run(mosquitto, "acknowledge", "fan", "--by", "anna") == 0
    assert run(mosquitto, "acknowledge", "fan", "--by", "bert") == 1
    assert run(mosquitto, "unmute", "fan") == 1
    errors = capsys.readouterr().err.splitlines()
    assert "fan has no alarm that goes on" in errors[0]
    assert "orin refuses to acknowledge fan: the alarm was acknowledged by anna already" in errors[1]
    assert "orin refuses to unmute fan: the machine is not muted" in errors[2]


def test_machine_that_nobody_knows_is_named(mosquitto, device, capsys, monkeypatch):
    """Nothing is sent; the message says what to check."""
    monkeypatch.setattr(alarm_command, "_RETAINED_WITHIN_S", 0.3)
    device.score(1.0)
    assert run(mosquitto, "mute", "pump") == 69
    assert "has said anything of a machine 'pump'; check its name" in capsys.readouterr().err


def test_machine_of_several_devices_must_be_told_apart(mosquitto, device, make_device, subscribe, capsys):
    """The devices are listed; with --site one is meant."""
    subscriber = subscribe(mosquitto)
    other = make_device(site="yard")
    device.score(1.0)
    other.score(1.0)
    subscriber.wait_for(lambda heard: len([one for one in heard if one.leaf == "state"]) == 2)
    assert run(mosquitto, "mute", "fan") == 2
    assert "several devices have a machine 'fan': hall/orin, yard/orin" in capsys.readouterr().err
    assert run(mosquitto, "mute", "fan", "--site", "yard") == 0
    assert (device.counters.totals()["commands_obeyed"], other.counters.totals()["commands_obeyed"]) == (0, 1)


def test_device_that_is_away_is_not_sent_anything(mosquitto, device, capsys):
    """A command that waits somewhere would be stale; who gives it learns at once that nobody hears."""
    device.score(1.0)
    device.end()
    assert run(mosquitto, "mute", "fan") == 69
    assert "hall/orin is stopped; expected it online" in capsys.readouterr().err


def test_device_that_does_not_answer_is_exit_code_75(mosquitto, say, capsys, monkeypatch):
    """A state and a word of availability that somebody left behind are no device."""
    monkeypatch.setattr(alarm_command, "_ANSWER_WITHIN_S", 0.3)
    say("edge_asd/hall/orin/availability", "online", retain=True)
    say("edge_asd/hall/orin/fan/state", json.dumps({"alarm_id": "a1", "command": None}), retain=True)
    assert run(mosquitto, "acknowledge", "fan") == 75
    assert f"ACL lets you write {TOPIC}" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["1", "0s", "8d", "-1h", "h", "1e3s", "soon"])
def test_time_of_a_mute_is_checked(wrong, capsys):
    """A number and a unit, at most 7 days."""
    with pytest.raises(SystemExit) as caught:
        main(["alarm", "mute", "fan", f"--for={wrong}"])
    assert caught.value.code == 2
    assert "expected 1s to 7d, as 30m or 2h" in capsys.readouterr().err


def test_random_payloads_over_the_broker_harm_nothing(mosquitto, device, say, wait_until):
    """1,000 of them, retained ones too: counted, nothing said, and the next command is obeyed."""
    device.score(9.0)
    draw = random.Random(3)
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect(mosquitto.host, mosquitto.port)
    client.loop_start()
    for number in range(1_000):
        info = client.publish(TOPIC, draw.randbytes(draw.randrange(1, 300)), qos=1, retain=number % 100 == 0)
    info.wait_for_publish(10)
    client.disconnect()
    client.loop_stop()
    wait_until(lambda: device.counters.totals()["commands_ignored"] == 1_000)
    say(TOPIC, b"", retain=True)
    assert run(mosquitto, "acknowledge", "fan") == 0
    assert device.delivery.broker.connections == 1


def test_retained_command_is_refused_at_each_connection_with_its_reason(mosquitto, make_device, say, subscribe):
    """Whoever left it at the broker reads why; it mutes nothing."""
    command = {
        "schema": 1,
        "id": "c1",
        "time_utc": "2026-11-21T09:00:00Z",
        "by": "anna",
        "command": "mute",
        "duration_s": 60,
    }
    say(TOPIC, json.dumps(command), retain=True)
    subscriber = subscribe(mosquitto)
    make_device()
    heard = subscriber.wait_for(lambda heard: any(one.leaf == "state" for one in heard))
    state = next(one.payload for one in heard if one.leaf == "state")
    assert (state["command"]["id"], state["command"]["accepted"], state["muted_until_utc"]) == ("c1", False, None)
    assert "it was retained at the broker" in state["command"]["reason"]

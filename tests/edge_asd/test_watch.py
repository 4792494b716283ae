"""edge-asd watch against a real broker, as a user or a script runs it."""

import argparse
import json
import os
import pty
import signal
import subprocess
import sys
import time

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_asd.commands import watch
from edge_asd.errors import ConfigError, UnavailableError, UsageError
from edge_asd.messages import Messages, ModelIdentity, Moment, Topics, payload_bytes
from edge_asd.types import MachineState, SpooledMessage

TOPICS = Topics(site="hall", device="orin")
MESSAGES = Messages(model=ModelIdentity(name="bldc", version="1", sha256="0" * 64), boot_id="b" * 36)
PASSWORD = "p@ss/word"  # noqa: S105 (of the broker that the test starts; its characters need quoting in a URL)


def parse(*words):
    parser = argparse.ArgumentParser(prog="edge-asd")
    watch.add_parser(parser.add_subparsers())
    return parser.parse_args(["watch", *words])


def run(*words):
    arguments = parse(*words)
    return arguments.run(arguments)


@pytest.fixture
def say(mosquitto):
    """A function that publishes retained messages, so that a watch that starts later gets them."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect(mosquitto.host, mosquitto.port)
    client.loop_start()

    def publish(topic, payload):
        client.publish(topic, payload, qos=1, retain=True).wait_for_publish(10)

    yield publish
    client.disconnect()
    client.loop_stop()


def state_payload(seq):
    at = Moment(utc_s=time.time(), monotonic_s=1.0, clock_synced=True)
    message = MESSAGES.state("fan", at, state=MachineState.NORMAL, previous=None, reason="", alarm_id=None)
    payload = {**message.payload, "seq": seq}
    return payload_bytes(
        SpooledMessage(row_id=1, machine="fan", leaf="state", retain=True, payload=payload), historical=False
    )


def test_json_is_one_line_a_message_and_nothing_else(mosquitto, say, capsys):
    """A script reads address, payload and the retained flag; foreign messages and repeats do not appear."""
    say(TOPICS.availability, "online")
    say(TOPICS.of("fan", "state"), state_payload(3))
    say("edge_asd/hall/orin/fan/score", "not json")
    assert run("--url", mosquitto.url, "--json", "--duration", "0.6") == 0
    captured = capsys.readouterr()
    lines = {line["leaf"]: line for line in map(json.loads, captured.out.splitlines())}
    assert captured.err == ""
    assert set(lines) == {"availability", "state"}
    assert lines["availability"] == {
        "topic": "edge_asd/hall/orin/availability",
        "site": "hall",
        "device": "orin",
        "machine": None,
        "leaf": "availability",
        "retained": True,
        "payload": "online",
    }
    assert lines["state"]["machine"] == "fan"
    assert lines["state"]["payload"] == json.loads(state_payload(3)) | {
        key: lines["state"]["payload"][key] for key in ("id", "time_utc")
    }


def test_table_shows_the_machine(mosquitto, say, capsys):
    """Where stdout is no terminal, the last picture is printed."""
    say(TOPICS.availability, "online")
    say(TOPICS.of("fan", "state"), state_payload(3))
    assert run("--url", mosquitto.url, "--duration", "0.8") == 0
    out = capsys.readouterr().out
    assert f"broker 127.0.0.1:{mosquitto.port}" in out
    assert ["hall/orin", "online", "fan", "normal"] in [line.split() for line in out.splitlines()]


def test_site_and_device_narrow_the_view(mosquitto, say, capsys):
    """Other devices of the broker are left out."""
    say(TOPICS.availability, "online")
    say(Topics(site="hall", device="other").availability, "online")
    assert run("--url", mosquitto.url, "--json", "--device", "other", "--duration", "0.6") == 0
    assert [json.loads(line)["device"] for line in capsys.readouterr().out.splitlines()] == ["other"]


def test_mqtt_url_of_the_environment_is_the_default(mosquitto, say, capsys, monkeypatch):
    """Set once, every call finds the broker."""
    say(TOPICS.availability, "online")
    monkeypatch.setenv("MQTT_URL", mosquitto.url)
    assert run("--json", "--duration", "0.6") == 0
    assert json.loads(capsys.readouterr().out)["payload"] == "online"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_ctrl_c_ends_it_with_0(mosquitto, say, options):
    """The usual way to leave, here in a terminal, leaves no trace of Python."""
    say(TOPICS.availability, "online")
    terminal, stdout = pty.openpty()
    command = [sys.executable, "-m", "edge_asd.cli", "watch", "--url", mosquitto.url, *options]
    child = subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True)
    os.close(stdout)
    shown = b""
    while b"online" not in shown:
        shown += os.read(terminal, 65536)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=10)
    os.close(terminal)
    assert (child.returncode, errors) == (0, "")


def test_absent_broker_is_named(make_mosquitto):
    """Host, port and what to check are in the message; the exit code is 69."""
    broker = make_mosquitto()
    with pytest.raises(
        UnavailableError, match=rf"127\.0\.0\.1:{broker.port}: .*refused; check host and port"
    ) as caught:
        run("--url", broker.url)
    assert caught.value.exit_code == 69


def test_refused_login_names_the_user_and_not_the_password(make_mosquitto):
    """A login that the broker does not know ends the command at once."""
    broker = make_mosquitto(accounts={"anna": PASSWORD})
    broker.start()
    with pytest.raises(
        UnavailableError, match=r"login of user 'anna' as client .* refused \(Not authorized\)"
    ) as caught:
        run("--url", f"mqtt://anna:guess@{broker.host}:{broker.port}")
    assert "guess" not in str(caught.value)


def test_login_in_the_url_is_taken(make_mosquitto):
    """Characters of a password that mean something in a URL are quoted with %."""
    broker = make_mosquitto(accounts={"anna": PASSWORD})
    broker.start()
    assert run("--url", f"mqtt://anna:p%40ss%2Fword@{broker.host}:{broker.port}", "--duration", "0.1") == 0


@pytest.mark.parametrize("url", ["localhost:1883", "http://localhost", "mqtt://", "mqtts://h:99999", "mqtt://u:pw@h/x"])
def test_url_that_cannot_be_used_says_what_is_expected(url):
    """The URL is not repeated: it may hold a password."""
    with pytest.raises(UsageError, match=r"expected mqtt://\[USER\[:PASSWORD\]@\]HOST\[:PORT\]") as caught:
        run("--url", url)
    assert "pw" not in str(caught.value)


def test_site_that_cannot_be_part_of_a_topic_is_refused():
    """A + would watch more than was asked for."""
    with pytest.raises(ConfigError, match="--site: '\\+'"):
        run("--url", "mqtt://localhost", "--site", "+")

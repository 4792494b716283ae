"""edge-asd audit: on real brokers, and on what watch wrote."""

import argparse
import json
import random
import signal
import subprocess
import sys
import threading
import time

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_asd.commands import audit
from edge_asd.errors import UnavailableError, UsageError

BASE = "edge_asd/hall/orin"


def run(*words):
    parser = argparse.ArgumentParser(prog="edge-asd")
    audit.add_parser(parser.add_subparsers())
    arguments = parser.parse_args(["audit", *words])
    return arguments.run(arguments)


def line(leaf, seq, *, machine="fan", retained=False, **payload):
    """A line as `watch --json` writes it."""
    machine = None if leaf == "health" else machine
    topic = "/".join(filter(None, (BASE, machine, leaf)))
    address = {"site": "hall", "device": "orin", "machine": machine, "leaf": leaf}
    return json.dumps({"topic": topic, **address, "retained": retained, "payload": {"seq": seq, **payload}})


def health(seq, *drops):
    keys = ("machine", "from", "to", "count", "why")
    return line("health", seq, drops=[dict(zip(keys, drop, strict=True)) for drop in drops])


@pytest.fixture
def file(tmp_path):
    """A function that writes lines to a file and returns its path."""

    def write(*lines):
        path = tmp_path / "heard.jsonl"
        path.write_text("\n".join(lines) + "\n")
        return str(path)

    return write


def test_complete_file_ends_with_0(file, capsys):
    """Every machine and the health messages have a row each."""
    lines = [line("score", 1), line("alarm", 2), line("score", 1, machine="pump"), health(4), line("score", 3)]
    assert run(file(*lines)) == 0
    rows = [row.split() for row in capsys.readouterr().out.splitlines()]
    assert ["hall/orin", "fan", "1", "to", "3", "3", "0", "0", "0", "0"] in rows
    assert ["hall/orin", "pump", "1", "to", "1", "1", "0", "0", "0", "0"] in rows
    assert ["hall/orin", "(health)", "4", "to", "4", "1", "0", "0", "0", "0"] in rows


def test_unexplained_gap_ends_with_1_and_is_named(file, capsys):
    """The range stands in the report."""
    assert run(file(line("score", 1), line("score", 5), line("score", 6), health(1, ("fan", 2, 3, 2, "full")))) == 1
    out = capsys.readouterr().out
    assert "hall/orin/fan: 1 of 2 to 4 missing without an announcement" in out
    assert "hall/orin/fan: 2 announced as lost: full" in out


def test_json_holds_the_whole_result(file, capsys):
    """A script reads it; what is not of the contract is counted and harms nothing, a broken last line included."""
    lines = [
        line("score", 1),
        "no json",
        json.dumps([1]),
        line("score", 2).replace("hall/orin", "hall"),
        line("score", 4),
    ]
    assert run(file(*lines, line("score", 5)[:-9]), "--json") == 1
    result = json.loads(capsys.readouterr().out)
    assert (result["complete"], result["unexplained"], result["messages"], result["foreign"]) == (False, 2, 2, 4)
    series = result["series"][0]
    assert (series["machine"], series["first"], series["last"], series["missing"]) == ("fan", 1, 4, 2)
    assert series["explained"]["gaps"] == [{"first": 2, "last": 3, "unexplained": 2}]


def test_nothing_heard_is_no_proof(file, mosquitto):
    """Neither from a file nor from a broker: the exit code is 69, and the message says what to check."""
    with pytest.raises(UnavailableError, match=r"no message was heard from .*heard\.jsonl"):
        run(file("{}"))
    with pytest.raises(UnavailableError, match=f"no message was heard from 127.0.0.1:{mosquitto.port}; expected"):
        run("--url", mosquitto.url, "--duration", "0.2")


def test_file_that_is_not_there_is_named():
    """A usage error, as a file and a broker together are."""
    with pytest.raises(UsageError, match=r"nowhere\.jsonl: it cannot be read"):
        run("nowhere.jsonl")
    with pytest.raises(UsageError, match="a file and a broker are given"):
        run("heard.jsonl", "--url", "mqtt://localhost")


def test_broker_is_heard_for_a_time(mosquitto, capsys):
    """Live messages are audited with their repeats; retained ones from before open no gap."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect(mosquitto.host, mosquitto.port)
    client.loop_start()

    def say(seq, leaf="score", **how):
        client.publish(f"{BASE}/fan/{leaf}", json.dumps({"seq": seq}), qos=1, **how).wait_for_publish(10)

    say(1, "state", retain=True)
    result = []
    thread = threading.Thread(target=lambda: result.append(run_in_thread("--url", mosquitto.url, "--duration", "2.5")))
    thread.start()
    time.sleep(1.0)
    for seq in (50, 51, 51, 53):
        say(seq)
    thread.join()
    client.disconnect()
    client.loop_stop()
    assert result == [1]
    assert "1 of 52 to 52 missing" in capsys.readouterr().out


def run_in_thread(*words):
    """Signals belong to the main thread: leave them alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signal, "signal", lambda *_: signal.SIG_DFL)
        return run(*words)


def audit_process(broker, *options):
    """An audit that listens; it has said so when this returns."""
    command = [sys.executable, "-m", "edge_asd.cli", "audit", "--url", broker.url, "--json", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "listening to" in process.stderr.readline()
    return process


def test_stopped_audit_gives_its_result(mosquitto):
    """SIGTERM and Ctrl-C end the listening, not the proof."""
    process = audit_process(mosquitto)
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect(mosquitto.host, mosquitto.port)
    client.loop_start()
    for seq in (1, 2):
        client.publish(f"{BASE}/fan/score", json.dumps({"seq": seq}), qos=1).wait_for_publish(10)
    time.sleep(0.3)
    client.disconnect()
    client.loop_stop()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert json.loads(out)["messages"] == 2


PUBLISH_FOREVER = """
import sys, time
from pathlib import Path
from edge_asd.mqtt.broker import BrokerSettings
from edge_asd.messages import Messages, ModelIdentity, Moment, Topics
from edge_asd.mqtt.publisher import Publisher
from edge_asd.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]), max_bytes=200_000)
messages = Messages(model=ModelIdentity(name="bldc", version="1", sha256="0" * 64), boot_id="b" * 36)
settings = BrokerSettings(host="127.0.0.1", port=int(sys.argv[2]), client_id="orin")
publisher = Publisher(settings, topics=Topics(site="hall", device="orin"), spool=outbox)
publisher.start()
def health(at):
    return messages.health(at, versions={}, engine="fake", engine_trouble=None, uptime_s=1.0, clock_max_error_ms=None,
                           counters={}, machine_counters={}, spool={})

number = 0
while number < int(sys.argv[3]):
    at = Moment(utc_s=time.time(), monotonic_s=time.monotonic(), clock_synced=True)
    burst = [
        messages.score(machine, at, score=1.0, threshold=2.0, coverage=1.0, latency_ms=5.0, engine="fake")
        for machine in ("fan", "pump")
        for _ in range(40)
    ]
    number += 1
    if number % 7 == 0:
        burst.append(health(at))
    outbox.put_many(burst)
    publisher.notify()
    print(number, flush=True)
    time.sleep(0.005)
publisher.notify()
while outbox.status().messages:  # now there is room for the last announcement, which pushes nothing out
    time.sleep(0.01)
at = Moment(utc_s=time.time(), monotonic_s=time.monotonic(), clock_synced=True)
outbox.put_many([health(at)])
publisher.stop(30.0)
outbox.close()
"""


def test_kills_and_a_full_spool_leave_nothing_unexplained(make_mosquitto, tmp_path):
    """Killed at random moments, the broker gone in between so that the spool overflows: what is missing was announced.

    The audit runs over all of it, in a process of its own.
    """
    broker = make_mosquitto(persistent=True)
    broker.start()
    process = audit_process(broker)
    moments = random.Random(5)
    arguments = [sys.executable, "-c", PUBLISH_FOREVER, tmp_path / "spool.db", str(broker.port)]
    for number in range(4):
        if number == 2:
            broker.stop()
        child = subprocess.Popen([*arguments, "1000000"], stdout=subprocess.PIPE)
        for _ in range(moments.randrange(10, 40) if number != 2 else 60):
            child.stdout.readline()
        child.kill()
        child.communicate()
        if number == 2:
            broker.start()
    subprocess.run([*arguments, "3"], check=True, stdout=subprocess.PIPE, timeout=60)
    time.sleep(5.0)  # its pauses between tries to connect have grown to 4 s at most, and it has a queue to read
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    result = json.loads(out)
    assert process.returncode == 0, result
    series = {series["machine"]: series for series in result["series"]}
    for machine in ("fan", "pump"):
        assert series[machine]["first"] == 1
        assert sum(series[machine]["explained"]["by_cause"].values()) == series[machine]["missing"] > 0
        assert series[machine]["out_of_order"] == series[machine]["explained"]["over_announced"] == 0
    assert result["connection_losses"] >= 1

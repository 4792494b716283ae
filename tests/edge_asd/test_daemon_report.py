"""How a daemon stands: its picture of itself, its troubles, its metrics and its endpoint."""

import http.client
import json
import re
import socket
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge_asd.counters import COUNTERS, Counters
from edge_asd.daemon.endpoint import Endpoint
from edge_asd.daemon.metrics import metrics_text
from edge_asd.daemon.progress import STALLED_S, Progress
from edge_asd.daemon.report import LatestWords, MachineReport, Report, troubles_of
from edge_asd.health import Clock
from edge_asd.messages import Messages, ModelIdentity, Moment
from edge_asd.mqtt.publisher import PublisherStatus
from edge_asd.outbox import Outbox
from edge_asd.types import AlarmEvent, MachineState

MODEL = ModelIdentity(name="motors", version="1.0.0", sha256="0" * 64)
MESSAGES = Messages(model=MODEL, boot_id="boot")
AT = Moment(utc_s=1.8e9, monotonic_s=100.0, clock_synced=True)
CONNECTED = PublisherStatus(connected=True, connections=1, acknowledged=10, trouble=None)


def score(machine, value):
    return MESSAGES.score(machine, AT, score=value, threshold=5.0, coverage=1.0, latency_ms=40.0, engine="fake")


def state(machine, new, alarm_id=None, reason="why"):
    return MESSAGES.state(machine, AT, state=new, previous=None, reason=reason, alarm_id=alarm_id)


def alarm(machine, kind):
    event = AlarmEvent(
        kind=kind, alarm_id="a1", began_utc_s=1.8e9, duration_s=3.0, score=9.0, peak_score=9.0, threshold=5.0
    )
    return MESSAGES.alarm(machine, AT, event)


@pytest.fixture
def spool(tmp_path):
    outbox = Outbox(tmp_path / "spool.sqlite", max_bytes=2**20)
    yield outbox.status()
    outbox.close()


@pytest.fixture
def make_report(spool):
    """A function: the report of a device with two machines, of which only the first has been scored."""

    def make(**changes):
        counters = Counters(("fan", "pump"))
        counters.add("windows_scored", 3, machine="fan")
        fan = MachineReport(
            name="fan", state="normal", reason="why", score=1.5, threshold=5.0, latency_ms=40.0, scored_monotonic_s=99.0
        )
        report = Report(
            site="hall",
            device="line",
            version="0.1.0",
            model=MODEL,
            engine="fake-int8",
            monotonic_s=100.0,
            uptime_s=60.0,
            clock=Clock(synced=True, max_error_ms=2.5),
            broker=CONNECTED,
            spool=spool,
            machines=(fan, MachineReport(name="pump")),
            counts=tuple(counters.counts()),
            troubles=(),
        )
        return replace(report, **changes)

    return make


def test_the_picture_of_a_machine_is_what_was_last_said_of_it():
    """Score, state and alarm come from different messages; an alarm that ended is over."""
    latest = LatestWords()
    latest.note([state("fan", MachineState.NORMAL), score("fan", 1.0)], 10.0)
    latest.note([score("fan", 9.0), alarm("fan", "new"), state("fan", MachineState.ALARM, "a1", "loud")], 11.0)
    fan, pump = latest.of(["fan", "pump"])
    assert fan == MachineReport(
        name="fan",
        state="alarm",
        reason="loud",
        alarm_id="a1",
        score=9.0,
        threshold=5.0,
        latency_ms=40.0,
        scored_monotonic_s=11.0,
    )
    assert pump == MachineReport(name="pump")
    latest.note([alarm("fan", "end")], 12.0)
    assert latest.of(["fan"])[0].alarm_id is None


def test_troubles_are_the_devices_own(spool):
    """A silent microphone, a broker away, losses, a hanging source and an engine that does not run are troubles.

    A machine's alarm is none.
    """
    silent = MachineReport(name="fan", state="sensor_fault", reason="no sound: unplugged")
    loud = MachineReport(name="pump", state="alarm", reason="loud", alarm_id="a1")
    away = replace(CONNECTED, connected=False, trouble="connection refused")
    troubles = troubles_of(
        machines=[silent, loud],
        broker=away,
        spool=replace(spool, dropped=2, unwritten=1),
        stalled=["card hangs"],
        engine_trouble="tensorrt: no driver",
    )
    assert troubles == (
        "card hangs",
        "fan: no sound: unplugged",
        "broker away (connection refused), 0 messages wait",
        "3 messages lost since the start (1 of them refused by the disk)",
        "not the engine that the configuration names first: tensorrt: no driver",
    )
    assert troubles_of(machines=[loud], broker=CONNECTED, spool=spool, stalled=[], engine_trouble=None) == ()


def test_metrics_are_named_by_convention_and_described(make_report):
    """Counters end in _total, names are lower case with base units, each has a help text, every counter is there."""
    families = list(text_string_to_metric_families(metrics_text(make_report()).decode()))
    for family in families:
        assert re.fullmatch(r"edge_asd_[a-z][a-z0-9_]*", family.name)
        assert not re.search(r"_(ms|minutes|kb|mb|count)$", family.name)
        assert family.documentation.endswith(".")
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
    counters = {family.name: family for family in families if family.type == "counter"}
    assert set(counters) == {f"edge_asd_{name}" for name in COUNTERS}
    scored = {sample.labels["machine"]: sample.value for sample in counters["edge_asd_windows_scored"].samples}
    assert scored == {"fan": 3, "pump": 0}


def test_metrics_of_a_machine_that_was_not_scored_yet_are_absent(make_report):
    """No score is no value, rather than a nought or a NaN."""
    families = {family.name: family for family in text_string_to_metric_families(metrics_text(make_report()).decode())}
    assert [sample.labels["machine"] for sample in families["edge_asd_score"].samples] == ["fan"]
    assert families["edge_asd_score_age_seconds"].samples[0].value == 1.0
    assert families["edge_asd_score_latency_seconds"].samples[0].value == 0.04


def test_a_source_stands_still_only_when_it_neither_delivers_nor_is_tried_again():
    """A card that is tried again and again is alive, however long it is silent."""
    progress = Progress()
    for second in range(200):
        progress.note("good", (second, 0), float(second))
        progress.note("unplugged", (7, second // 10), float(second))
        progress.note("hanging", (5, 0), float(second))
    assert progress.stalled(STALLED_S) == []
    (stalled,) = progress.stalled(199.0)
    assert "hanging has neither delivered sound nor been tried again for 199 s" in stalled


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def test_the_endpoint_answers_on_this_machine_alone(make_report, port):
    """Metrics and status are there, other paths are not, and no other interface listens."""
    endpoint = Endpoint(port, make_report)
    assert get(port, "/metrics")[0] == 200
    code, body = get(port, "/status")
    assert (code, json.loads(body)["device"]) == (200, "line")
    assert get(port, "/etc/passwd")[0] == 404
    with socket.create_server(("127.0.0.2", port)):  # the port is free on every other address
        pass
    endpoint.close()
    with pytest.raises(ConnectionRefusedError):
        get(port, "/metrics")


def test_a_client_that_says_nothing_does_not_keep_others_waiting_for_long(make_report, port, monkeypatch):
    """A connection without a request is dropped, and the next one is answered."""
    monkeypatch.setattr("edge_asd.daemon.endpoint._Request.timeout", 0.2)
    endpoint = Endpoint(port, make_report)
    with socket.create_connection(("127.0.0.1", port)):
        assert get(port, "/status")[0] == 200
    endpoint.close()


def test_a_report_that_fails_is_an_answer_too(port, caplog):
    """A bug in the report is logged and answered, and ends neither daemon nor endpoint."""
    endpoint = Endpoint(port, lambda: 1 / 0)
    assert get(port, "/metrics")[0] == 500
    assert get(port, "/status")[0] == 500
    assert "how the daemon stands cannot be told" in caplog.text
    endpoint.close()

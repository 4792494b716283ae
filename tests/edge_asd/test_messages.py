"""The MQTT contract, frozen: whoever changes what goes over the wire changes this file and the schema number."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.errors import ConfigError
from edge_asd.messages import (
    Address,
    Messages,
    ModelIdentity,
    Moment,
    Topics,
    address_of,
    check_topic_name,
    is_command,
    is_topic_name,
    payload_bytes,
)
from edge_asd.types import AlarmEvent, CommandAnswer, MachineState, SpooledMessage

MODEL = ModelIdentity(name="bldc", version="1.2.0", sha256="5e" * 32)
AT = Moment(utc_s=1_767_225_599.9994, monotonic_s=4711.12345, clock_synced=True)
MESSAGES = Messages(model=MODEL, boot_id="449fb65b-2493-48eb-ae22-8560a7b75584", keeps_evidence=True)
ENVELOPE = """
    "schema": 1, "seq": 17, "boot_id": "449fb65b-2493-48eb-ae22-8560a7b75584",
    "time_utc": "2025-12-31T23:59:59.999Z", "time_monotonic_s": 4711.123, "clock_synced": true, "historical": false,
    "model": {"name": "bldc", "version": "1.2.0",
              "sha256": "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e"}
"""


def over_the_wire(message):
    """The payload as a subscriber decodes it, numbered 17 by the spool."""
    spooled = SpooledMessage(
        row_id=1,
        machine=message.machine,
        leaf=message.leaf,
        retain=message.retain,
        payload={**message.payload, "seq": 17},
    )
    return json.loads(payload_bytes(spooled, historical=False))


def score():
    return MESSAGES.score(
        "fan", AT, score=-3.25, threshold=1.5, coverage=0.98765, latency_ms=12.34567, engine="openvino-int8"
    )


def state():
    return MESSAGES.state(
        "fan",
        AT,
        state=MachineState.ALARM,
        previous=MachineState.WARNING,
        reason="above the threshold for 10 s",
        alarm_id="a1",
        acknowledged_by="anna",
        muted_until_utc_s=1_767_229_200.0,
        answer=CommandAnswer(command_id="c7", refused_because="it came before"),
    )


def alarm():
    event = AlarmEvent(
        kind="update",
        alarm_id="a1",
        began_utc_s=1_767_225_500.0,
        duration_s=99.9996,
        score=2.5,
        peak_score=3.5,
        threshold=1.5,
        acknowledged_by="anna",
        muted_until_utc_s=1_767_229_200.0,
    )
    return MESSAGES.alarm("fan", AT, event)


def health():
    return MESSAGES.health(
        AT,
        versions={"edge-asd": "0.1.0"},
        engine="openvino-int8",
        engine_trouble="tensorrt: no CUDA driver",
        uptime_s=60.04,
        clock_max_error_ms=2.5,
        counters={"windows_scored": 62},
        machine_counters={"motor-1": {"windows_scored": 62}},
        spool={"messages": 3},
    )


FROZEN = {
    "score": (
        score,
        False,
        """ "score": -3.25, "threshold": 1.5, "coverage": 0.9877, "latency_ms": 12.346, "engine": "openvino-int8" """,
    ),
    "state": (
        state,
        True,
        """ "state": "alarm", "previous": "warning", "reason": "above the threshold for 10 s", "alarm_id": "a1",
            "acknowledged_by": "anna", "muted_until_utc": "2026-01-01T01:00:00.000Z",
            "command": {"id": "c7", "accepted": false, "reason": "it came before"} """,
    ),
    "alarm": (
        alarm,
        False,
        """ "id": "a1", "event": "update", "began_utc": "2025-12-31T23:58:20.000Z", "duration_s": 100.0,
            "score": 2.5, "peak_score": 3.5, "threshold": 1.5,
            "acknowledged_by": "anna", "muted_until_utc": "2026-01-01T01:00:00.000Z",
            "evidence_id": "a1" """,
    ),
    "health": (
        health,
        True,
        """ "versions": {"edge-asd": "0.1.0"}, "engine": "openvino-int8",
            "engine_trouble": "tensorrt: no CUDA driver", "uptime_s": 60.0,
            "clock": {"synced": true, "max_error_ms": 2.5}, "counters": {"windows_scored": 62},
            "machine_counters": {"motor-1": {"windows_scored": 62}},
            "spool": {"messages": 3} """,
    ),
}


@pytest.mark.parametrize("leaf", FROZEN)
def test_payload_is_as_frozen(leaf):
    """Each kind of message has exactly these fields with exactly these spellings."""
    build, retain, fields = FROZEN[leaf]
    message = build()
    expected = json.loads("{" + ENVELOPE + "," + fields + "}")
    payload = over_the_wire(message)
    if leaf != "alarm":
        assert len(payload.pop("id")) == 36  # an alarm's id is the alarm's; the others' are drawn
    assert (message.leaf, message.retain) == (leaf, retain)
    assert expected == payload


@pytest.mark.parametrize("leaf", FROZEN)
def test_every_field_is_documented(leaf):
    """Whoever subscribes finds each field of the payload in docs/mqtt.md."""
    documentation = (Path(__file__).parents[2] / "docs" / "mqtt.md").read_text(encoding="utf-8")
    fields = set(over_the_wire(FROZEN[leaf][0]()))
    assert {field for field in fields if f"`{field}`" not in documentation} == set()


def test_topics_are_as_frozen():
    """The topics of the contract."""
    topics = Topics(site="hall-2", device="orin-7")
    assert topics.availability == "edge_asd/hall-2/orin-7/availability"
    assert topics.of(None, "health") == "edge_asd/hall-2/orin-7/health"
    assert topics.of("fan", "score") == "edge_asd/hall-2/orin-7/fan/score"
    assert topics.of("fan", "state") == "edge_asd/hall-2/orin-7/fan/state"
    assert topics.of("fan", "alarm") == "edge_asd/hall-2/orin-7/fan/alarm"
    assert topics.command("fan") == "edge_asd/hall-2/orin-7/fan/command"


def test_topic_is_taken_apart_as_it_was_put_together():
    """Who listens learns site, device, machine and kind; foreign topics are told apart."""
    topics = Topics(site="hall-2", device="orin-7")
    assert address_of(topics.of("fan", "alarm")) == Address(site="hall-2", device="orin-7", machine="fan", leaf="alarm")
    assert address_of(topics.availability) == Address(site="hall-2", device="orin-7", machine=None, leaf="availability")
    # A machine may be called health.
    assert address_of(topics.of("health", "score")).machine == "health"
    for foreign in (
        "edge_asd/hall-2/orin-7",
        "edge_asd/h/o/fan/volume",
        "other/h/o/health",
        "edge_asd/h/o/score",
        "edge_asd/h//fan/score",
        "edge_asd/h/o/\x1b[2J/score",  # a terminal would obey it
    ):
        assert address_of(foreign) is None


@given(st.one_of(st.text(max_size=70), st.text("ab+/#$ \x1b", max_size=6)))
def test_name_that_is_taken_makes_topics_that_are_understood(name):
    """Whatever it is: refused by the one check, or put together and taken apart again as the same."""
    topic = Topics(site="hall", device="orin").of(name, "score")
    if is_topic_name(name):
        assert address_of(topic) == Address(site="hall", device="orin", machine=name, leaf="score")
        assert Topics(site=name, device=name).availability == f"edge_asd/{name}/{name}/availability"
        assert not set("\0+#") & set(topic)
    else:
        assert address_of(topic) is None
        with pytest.raises(ConfigError):
            Topics(site=name, device="orin")


def test_commands_are_told_from_what_devices_say():
    """Who listens to everything hears commands too, which are no messages of a device."""
    topics = Topics(site="hall-2", device="orin-7")
    assert is_command(topics.command("fan"))
    assert address_of(topics.command("fan")) is None
    assert not any(map(is_command, (topics.of("fan", "alarm"), "other/h/o/fan/command", "edge_asd/h/o/command")))


def test_each_message_has_an_id_of_its_own():
    """Two scores are told apart by id."""
    assert score().payload["id"] != score().payload["id"]


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "*", "$SYS", " fan", "fan\n", "a\0b"])
def test_name_that_breaks_a_topic_is_refused(name):
    """Such a name would reach other topics, or none."""
    with pytest.raises(ConfigError, match="cannot be part of an MQTT topic"):
        Topics(site="hall", device=name)


@pytest.mark.parametrize("name", ["Lüfter 3", "orin-7", "a.b_c"])
def test_name_in_any_language_is_taken(name):
    """Names need not be ASCII."""
    check_topic_name(name, where="machines[0].name")
    assert Topics(site="hall", device=name).availability == f"edge_asd/hall/{name}/availability"


def test_nan_does_not_reach_the_wire():
    """NaN is not JSON: a subscriber's parser would fail."""
    message = MESSAGES.score("fan", AT, score=float("nan"), threshold=1.5, coverage=1.0, latency_ms=1.0, engine="x")
    with pytest.raises(ValueError, match="JSON"):
        over_the_wire(message)

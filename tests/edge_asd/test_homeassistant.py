"""Home Assistant: what is announced, when it is announced anew, and how it is taken back."""

import json
import re

import jinja2
import paho.mqtt.client as paho
import pytest
import yaml
from paho.mqtt.enums import CallbackAPIVersion

from edge_asd.cli import main
from edge_asd.config import load_config
from edge_asd.counters import Counters
from edge_asd.daemon.delivery import Delivery
from edge_asd.homeassistant import discovery_payload, discovery_topic
from edge_asd.messages import Messages, ModelIdentity, Moment, Topics
from edge_asd.types import MachineState

TOPICS = Topics(site="hall", device="orin")
MESSAGES = Messages(model=ModelIdentity(name="bldc", version="1", sha256="0" * 64), boot_id="b" * 36)
AT = Moment(utc_s=1_767_225_600.0, monotonic_s=1.0, clock_synced=True)


def announced(topics=TOPICS, machines=("fan", "Lüfter 2")):
    return json.loads(discovery_payload(topics, machines, version="1.2.3"))


def test_announcement_holds_what_home_assistant_asks_for():
    """Device, origin and components, each with its platform and an id of its own; topics of the contract."""
    payload = announced()
    assert payload["device"]["identifiers"]
    assert payload["device"]["sw_version"] == payload["origin"]["sw_version"] == "1.2.3"
    assert payload["availability_topic"] == TOPICS.availability
    components = payload["components"]
    assert len(components) == 8
    assert {component["platform"] for component in components.values()} == {"sensor", "binary_sensor"}
    assert len({component["unique_id"] for component in components.values()}) == 8
    assert {component["state_topic"] for component in components.values()} == {
        TOPICS.of(machine, leaf) for machine in ("fan", "Lüfter 2") for leaf in ("score", "state")
    }


@pytest.mark.parametrize("name", ["orin", "Lüfter 3", "a.b c", "a_b", "a b"])
def test_identifiers_are_made_of_what_home_assistant_takes(name):
    """Whatever a site calls its devices and machines, and however alike the names are."""
    topic = discovery_topic(Topics(site="hall", device=name))
    assert re.fullmatch(r"homeassistant/device/[A-Za-z0-9_-]+/config", topic)
    for key, component in announced(machines=[name])["components"].items():
        assert re.fullmatch(r"[A-Za-z0-9_-]+", key)
        assert re.fullmatch(r"[A-Za-z0-9_-]+", component["unique_id"])


def test_names_that_look_alike_do_not_meet():
    """Two devices, or two machines, whose names differ in one sign alone are two."""
    assert len({discovery_topic(Topics(site="hall", device=name)) for name in ("a_b", "a b", "a.b")}) == 3
    assert discovery_topic(Topics(site="a", device="x")) != discovery_topic(Topics(site="b", device="x"))
    assert len(announced(machines=["a_b", "a b"])["components"]) == 8


@pytest.mark.parametrize(
    ("state", "alarm_id", "expected"),
    [
        (MachineState.NORMAL, None, {"state": "normal", "alarm": "OFF", "sensor-fault": "OFF"}),
        (MachineState.ALARM, "a1", {"state": "alarm", "alarm": "ON", "sensor-fault": "OFF"}),
        (MachineState.SENSOR_FAULT, "a1", {"state": "sensor_fault", "alarm": "ON", "sensor-fault": "ON"}),
    ],
)
def test_templates_read_the_messages(state, alarm_id, expected):
    """As Home Assistant renders them, with a payload of the contract."""
    payload = MESSAGES.state("fan", AT, state=state, previous=None, reason="", alarm_id=alarm_id).payload
    components = announced(machines=["fan"])["components"]
    shown = {
        key.split("-", 2)[2]: jinja2.Template(component["value_template"]).render(value_json=payload)
        for key, component in components.items()
        if not key.endswith("score")
    }
    assert shown == expected
    availability = jinja2.Template(announced()["availability_template"])
    assert [availability.render(value=word) for word in ("online", "offline", "stopped")] == [
        "online",
        "offline",
        "offline",
    ]


@pytest.fixture
def config(tmp_path, mosquitto):
    """A device's configuration that wants to be announced."""
    path = tmp_path / "device.yaml"
    keys = {
        "schema": 1,
        "site": TOPICS.site,
        "device": TOPICS.device,
        "bundle": "none.asd",
        "state_dir": "state",
        "machines": [{"name": "fan", "listens_to": "bldc/M1"}],
        "mqtt": {"url": mosquitto.url, "home_assistant": True},
    }
    path.write_text(yaml.safe_dump(keys))
    return load_config(path, files_must_exist=False)


@pytest.fixture
def home_assistant(mosquitto):
    """What a Home Assistant does on a broker: it hears announcements, and says that it is online."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    heard = []
    client.on_connect = lambda client, *_: client.subscribe("homeassistant/device/#", qos=1)
    client.on_message = lambda _client, _data, message: heard.append(message)
    client.connect(mosquitto.host, mosquitto.port)
    client.loop_start()
    client.heard = heard
    yield client
    client.disconnect()
    client.loop_stop()


def test_device_is_announced_on_connection_and_when_home_assistant_comes_online(config, home_assistant, wait_until):
    """A Home Assistant that was restarted hears of the device anew; what else is said there does not matter."""
    delivery = Delivery(config, counters=Counters())
    try:
        wait_until(lambda: len(home_assistant.heard) == 1)
        home_assistant.publish("homeassistant/status", "offline", qos=1).wait_for_publish(5)
        home_assistant.publish("homeassistant/status", "online", qos=1).wait_for_publish(5)
        wait_until(lambda: len(home_assistant.heard) == 2)
    finally:
        delivery.close()
    assert {message.topic for message in home_assistant.heard} == {discovery_topic(TOPICS)}
    payloads = [json.loads(message.payload) for message in home_assistant.heard]
    assert payloads[0] == payloads[1]
    assert any(component["name"] == "fan alarm" for component in payloads[0]["components"].values())


def test_device_that_was_removed_is_retained_no_more(config, mosquitto, home_assistant, wait_until, capsys):
    """`edge-asd ha remove` leaves nothing at the broker, and says whether there was something."""
    delivery = Delivery(config, counters=Counters())
    wait_until(lambda: home_assistant.heard)
    delivery.close()
    arguments = ["ha", "remove", "--url", mosquitto.url, "--site", "hall", "--device", "orin"]
    assert main(arguments) == 0
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines() == [
        "hall/orin: removed from Home Assistant",
        "hall/orin: was not announced to Home Assistant",
    ]
    wait_until(lambda: home_assistant.heard and home_assistant.heard[-1].payload == b"")


def test_device_to_remove_must_be_named(capsys):
    """Without a name nothing is removed."""
    assert main(["ha", "remove", "--url", "mqtt://localhost", "--site", "hall"]) == 2
    assert "give --config, or --site and --device" in capsys.readouterr().err

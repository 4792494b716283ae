"""What a command that listens gets from a real broker, over its restarts too."""

import socket
import threading

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_asd.errors import UnavailableError
from edge_asd.mqtt.broker import BrokerSettings
from edge_asd.mqtt.subscription import Subscription


def settings(broker, protocol=5):
    return BrokerSettings(host=broker.host, port=broker.port, client_id="listener", protocol=protocol)


def say(broker, *payloads):
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect(broker.host, broker.port)
    client.loop_start()
    for payload in payloads:
        client.publish("news", payload, qos=1).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


def take(subscription, count, timeout_s=15.0):
    """The payloads of the next messages."""
    return [subscription.get(timeout_s).payload for _ in range(count)]


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
def test_with_a_session_nothing_is_missed_while_the_broker_restarts(make_mosquitto, protocol):
    """What was said before it was back is there, and the session ends with the subscription."""
    broker = make_mosquitto(persistent=True)
    broker.start()
    with Subscription(settings(broker, protocol), ["news"], session_s=60) as subscription:
        say(broker, "before")
        assert take(subscription, 1) == [b"before"]
        broker.stop()
        broker.start()
        say(broker, "while away")  # it waits a second ahead of its first attempt
        assert take(subscription, 1) == [b"while away"]
        assert subscription.losses == 1
        assert subscription.trouble is None
    assert not session_left(broker)


def test_without_a_session_the_broker_keeps_nothing(mosquitto):
    """A live view has no use for the past."""
    with Subscription(settings(mosquitto), ["news"]) as subscription:
        say(mosquitto, "now")
        assert take(subscription, 1) == [b"now"]
    assert not session_left(mosquitto)


def session_left(broker):
    """Whether the broker still holds something for the listener."""
    answers = []
    connected = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="listener", clean_session=False)
    client.on_connect = lambda _client, _data, flags, *_: (answers.append(flags.session_present), connected.set())
    client.connect(broker.host, broker.port)
    client.loop_start()
    assert connected.wait(10)
    client.disconnect()
    client.loop_stop()
    return answers[0]


def test_nothing_comes_is_none(mosquitto):
    """A listener looks after other things in between."""
    with Subscription(settings(mosquitto), ["news"]) as subscription:
        assert subscription.get(0.05) is None


def test_something_else_that_listens_is_no_broker():
    """A port that takes connections and says nothing ends the command with what to check."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        silent = BrokerSettings(host="127.0.0.1", port=port, client_id="listener", connect_timeout_s=0.5)
        with pytest.raises(
            UnavailableError, match=r"no answer to the login; .* a broker listens there that speaks MQTT 5"
        ):
            Subscription(silent, ["news"]).__enter__()

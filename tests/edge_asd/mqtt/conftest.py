"""For tests of delivery: brokers and MQTT versions in turn, a spool, publishers, another client."""

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_asd.mqtt.backoff import Backoff
from edge_asd.mqtt.broker import BrokerSettings
from edge_asd.mqtt.publisher import Publisher
from edge_asd.outbox import Outbox
from tests.edge_asd.mqtt.kit import TOPICS


@pytest.fixture(params=[("mosquitto", 5), ("mosquitto", "3.1.1"), ("amqtt_broker", "3.1.1")], ids=str)
def broker(request):
    """Each test with it runs once a broker and MQTT version."""
    name, protocol = request.param
    broker = request.getfixturevalue(name)
    broker.protocol = protocol
    return broker


@pytest.fixture
def outbox(tmp_path):
    outbox = Outbox(tmp_path / "spool.db", max_bytes=10_000_000)
    yield outbox
    outbox.close()


@pytest.fixture
def publish(outbox):
    """A function that starts a publisher on the outbox, with short pauses, and stops it after the test."""
    started = []

    def start(broker, spool=outbox, subscriptions=None, in_flight=64, **settings):
        settings = {"client_id": "orin", "protocol": getattr(broker, "protocol", 5), **settings}
        publisher = Publisher(
            BrokerSettings(host=broker.host, port=broker.port, **settings),
            topics=TOPICS,
            spool=spool,
            subscriptions=subscriptions,
            in_flight=in_flight,
            backoff=Backoff(0.05, 0.2),
        )
        publisher.start()
        started.append(publisher)
        return publisher

    yield start
    for publisher in started:
        publisher.stop(0.0)


@pytest.fixture
def say(broker):
    """A function that publishes as another client of the broker; keywords are paho's."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="operator")
    client.connect(broker.host, broker.port)
    client.loop_start()
    yield lambda topic, payload, **how: client.publish(topic, payload, qos=1, **how).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()

"""Commands that come in, and retained messages that no spool holds."""

import time

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.edge_asd.mqtt.kit import score, wait_until


def test_commands_reach_their_handler_and_a_fault_in_it_harms_nothing(broker, outbox, publish, say, caplog):
    """Topic and payload are handed on; an exception is logged, and delivery and commands go on."""
    got = []

    def obey(received):
        got.append((received.topic, received.payload))
        if received.payload == b"bad":
            raise RuntimeError("a bug in the handler")

    publisher = publish(broker, subscriptions={"edge_asd/hall/orin/+/command": obey})
    wait_until(lambda: publisher.status().connected)
    for payload in ("bad", "good"):
        say("edge_asd/hall/orin/fan/command", payload)
    say("edge_asd/hall/other/fan/command", "not ours")
    outbox.put_many([score()])
    publisher.notify()
    wait_until(lambda: len(got) == 2 and outbox.status().messages == 0)
    assert got == [("edge_asd/hall/orin/fan/command", b"bad"), ("edge_asd/hall/orin/fan/command", b"good")]
    assert "a bug in the handler" in caplog.text
    assert publisher.status().connections == 1


def test_message_of_the_past_is_marked_and_one_of_absurd_size_is_not_handed_on(broker, publish, say):
    """A retained command would be obeyed anew on each connection if nobody could tell; a huge one is no command."""
    say("edge_asd/hall/orin/fan/command", "retained", retain=True)
    got = []
    publisher = publish(broker, subscriptions={"edge_asd/hall/orin/+/command": got.append})
    wait_until(lambda: publisher.status().connected and got)
    say("edge_asd/hall/orin/fan/command", "x" * 70_000)
    say("edge_asd/hall/orin/fan/command", "now")
    wait_until(lambda: len(got) == 2)
    assert [(received.payload, received.retained) for received in got] == [(b"retained", True), (b"now", False)]


def test_each_connection_subscribes_anew(make_mosquitto, publish):
    """After a restart of the broker commands come as before."""
    broker = make_mosquitto()
    broker.start()
    got = []
    publisher = publish(
        broker,
        subscriptions={"command": lambda received: got.append(received.payload)},
    )
    for number in (1, 2):
        wait_until(lambda n=number: publisher.status().connections == n)
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.connect(broker.host, broker.port)
        client.loop_start()
        client.publish("command", str(number), qos=1).wait_for_publish(10)
        client.disconnect()
        client.loop_stop()
        wait_until(lambda n=number: len(got) == n)
        if number == 1:
            broker.stop()
            broker.start()
    assert got == [b"1", b"2"]


def test_kept_messages_are_retained_and_said_again_on_each_connection(make_mosquitto, publish, subscribe):
    """A broker that forgot everything has them again, in their last form; an empty one is forgotten for good."""
    broker = make_mosquitto()
    broker.start()
    publisher = publish(broker)
    publisher.keep("edge_asd/discovery/a", b"old")
    publisher.keep("edge_asd/discovery/a", b"new")
    publisher.keep("edge_asd/discovery/b", b"gone")
    publisher.keep("edge_asd/discovery/b", b"")
    for number in (1, 2):
        wait_until(lambda n=number: publisher.status().connections == n)
        subscribe(broker).wait_for(lambda heard: any(message.payload == "new" for message in heard))
        time.sleep(0.1)  # the one that is empty comes next; who is there by then hears of it
        heard = subscribe(broker).wait_for(lambda heard: any(message.payload == "new" for message in heard))
        assert {message.payload for message in heard if "discovery" in message.topic} == {"new"}
        if number == 1:
            broker.stop()
            broker.start()


def test_kept_messages_are_bounded(mosquitto, publish):
    """A caller with ever new topics is told so."""
    publisher = publish(mosquitto)
    for number in range(64):
        publisher.keep(f"topic/{number}", b"x")
    with pytest.raises(ValueError, match="topic/64: 64 topics are kept already"):
        publisher.keep("topic/64", b"x")
    publisher.keep("topic/63", b"y")

"""Brokers that come late, stop, die, hang or are cut off: nothing is lost, and order stays."""

import logging
import random
import threading
import time

from tests.edge_asd.mqtt.kit import MuteBroker, score, seqs_by_machine, wait_until


def test_broker_that_comes_later_gets_everything_as_historical(make_mosquitto, outbox, publish, subscribe, caplog):
    """Without a broker the device goes on; attempts are repeated and the log says so once."""
    broker = make_mosquitto()
    publisher = publish(broker)
    outbox.put_many([score() for _ in range(100)])
    publisher.notify()
    wait_until(lambda: publisher.status().trouble is not None)
    time.sleep(0.5)  # several attempts
    assert outbox.status().messages == 100
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert f"127.0.0.1:{broker.port}" in warnings[0]
    assert "Connection refused; check host and port, and whether the broker runs" in warnings[0]
    # The subscriber must be there before the publisher comes back: it pauses 0.2 s at most, so keep it out meanwhile.
    publisher.stop(0.0)
    broker.start()
    subscriber = subscribe(broker)
    publisher = publish(broker)
    heard = subscriber.wait_for(lambda heard: len(seqs_by_machine(heard)["fan"]) == 100)
    assert seqs_by_machine(heard)["fan"] == list(range(1, 101))
    assert all(message.payload["historical"] for message in heard if message.leaf == "score")
    outbox.put_many([score()])
    publisher.notify()
    heard = subscriber.wait_for(lambda heard: len(seqs_by_machine(heard)["fan"]) == 101)
    assert heard[-1].payload["historical"] is False


def test_publisher_started_before_its_broker_connects(make_mosquitto, publish):
    """One and the same publisher finds the broker once it is there."""
    broker = make_mosquitto()
    publisher = publish(broker)
    wait_until(lambda: publisher.status().trouble is not None)
    broker.start()
    wait_until(lambda: publisher.status().connected)
    assert publisher.status().trouble is None


def test_broker_restarts_in_mid_stream_lose_nothing(make_mosquitto, outbox, publish, subscribe):
    """Three restarts while messages flow: a durable subscriber has every number, in order once repeats are dropped."""
    broker = make_mosquitto(persistent=True)
    broker.start()
    subscriber = subscribe(broker, durable=True)
    publisher = publish(broker)
    done = threading.Event()

    def put():
        while not done.is_set():
            outbox.put_many([score(), score("pump")])
            publisher.notify()
            time.sleep(0.001)

    thread = threading.Thread(target=put)
    thread.start()
    for _ in range(3):
        connections = publisher.status().connections
        time.sleep(0.2)
        broker.stop()
        time.sleep(0.1)
        broker.start()
        wait_until(lambda n=connections: publisher.status().connections > n)
    done.set()
    thread.join()
    wait_until(lambda: outbox.status().messages == 0)
    last = outbox.put_many([score()])[0]
    publisher.notify()
    heard = subscriber.wait_for(lambda heard: last in seqs_by_machine(heard)["fan"])
    seqs = seqs_by_machine(heard)
    assert list(dict.fromkeys(seqs["fan"])) == list(range(1, last + 1))
    assert list(dict.fromkeys(seqs["pump"])) == list(range(1, last))


def test_broker_that_hangs_is_left_and_found_again(mosquitto, outbox, publish, caplog):
    """A connection that answers nothing counts as lost after the keepalive, and no message is lost with it."""
    publisher = publish(mosquitto, keepalive_s=1, connect_timeout_s=0.5)
    wait_until(lambda: publisher.status().connected)
    mosquitto.freeze()
    outbox.put_many([score() for _ in range(100)])
    publisher.notify()
    wait_until(lambda: "no answer to the login" in caplog.text)
    assert "connection lost" in caplog.text
    assert outbox.status().messages == 100
    mosquitto.thaw()
    wait_until(lambda: outbox.status().messages == 0)


def test_unacknowledged_messages_are_offered_again_as_historical(make_mosquitto, outbox, publish, subscribe):
    """What was under way when the connection broke waits like all else, and says so."""
    mute = MuteBroker()
    publisher = publish(mute)
    wait_until(lambda: publisher.status().connected)
    outbox.put_many([score() for _ in range(100)])
    publisher.notify()
    wait_until(lambda: mute.messages == 63)  # and `online`
    assert outbox.status().messages == 100
    publisher.stop(0.0)
    mute.close()
    real = make_mosquitto()
    real.start()
    subscriber = subscribe(real)
    publish(real)
    heard = subscriber.wait_for(lambda heard: len(seqs_by_machine(heard)["fan"]) == 100)
    assert seqs_by_machine(heard)["fan"] == list(range(1, 101))
    assert all(message.payload["historical"] for message in heard if message.leaf == "score")


def test_connection_cut_in_the_midst_of_a_packet_loses_nothing(mosquitto, make_relay, outbox, publish, subscribe):
    """Reset after any number of bytes, again and again: every number arrives, in order once repeats are dropped."""
    subscriber = subscribe(mosquitto)
    moments = random.Random(11)
    relay = make_relay(mosquitto.port, cut_after=[moments.randrange(1, 40_000) for _ in range(12)])
    outbox.put_many([score() for _ in range(1_500)])
    publisher = publish(relay)
    wait_until(lambda: outbox.status().messages == 0, timeout_s=30.0)
    heard = subscriber.wait_for(lambda heard: 1_500 in seqs_by_machine(heard)["fan"])
    assert relay.cuts == 12
    assert publisher.status().trouble is None
    assert list(dict.fromkeys(seqs_by_machine(heard)["fan"])) == list(range(1, 1_501))


def test_broker_killed_in_mid_stream_is_offered_what_it_did_not_acknowledge(make_mosquitto, outbox, publish, subscribe):
    """Killed with messages under way, twice: all that it had not acknowledged comes when it is back, and in order."""
    broker = make_mosquitto()
    for _ in range(2):
        broker.start()
        publisher = publish(broker)
        outbox.put_many([score() for _ in range(500)])
        publisher.notify()
        wait_until(lambda publisher=publisher: publisher.status().acknowledged > 0)
        broker.kill()
        wait_until(lambda publisher=publisher: not publisher.status().connected)
        publisher.stop(0.0)
        left = [message.payload["seq"] for message in outbox.pending(limit=1_000, after=0)]
        broker.start()
        subscriber = subscribe(broker)
        publisher = publish(broker)
        wait_until(lambda: outbox.status().messages == 0)
        heard = subscriber.wait_for(lambda heard, left=left: len(seqs_by_machine(heard)["fan"]) >= len(left))
        assert seqs_by_machine(heard)["fan"] == left
        publisher.stop(1.0)
        broker.stop()

"""What is put arrives: on its topic, in order, once acknowledged no more, and from a device that is killed."""

import random
import subprocess
import sys
import time

from edge_asd.outbox import Outbox
from edge_asd.types import MachineState
from tests.edge_asd.mqtt.kit import MuteBroker, alarm, availability, health, score, seqs_by_machine, state, wait_until


def test_everything_arrives_on_its_topic_and_in_order(broker, outbox, publish, subscribe):
    """A live subscriber hears availability first, then each message once, none of them historical."""
    subscriber = subscribe(broker)
    publisher = publish(broker)
    subscriber.wait_for(lambda heard: availability(heard) == ["online"])
    outbox.put_many([score(), state(), alarm(), health()])
    publisher.notify()
    heard = subscriber.wait_for(lambda heard: len(heard) == 5)
    assert [message.topic for message in heard] == [
        "edge_asd/hall/orin/availability",
        "edge_asd/hall/orin/fan/score",
        "edge_asd/hall/orin/fan/state",
        "edge_asd/hall/orin/fan/alarm",
        "edge_asd/hall/orin/health",
    ]
    assert [message.payload["seq"] for message in heard[1:]] == [1, 2, 3, 1]
    assert not any(message.payload["historical"] for message in heard[1:])
    assert heard[4].payload["drops"] == []
    wait_until(lambda: outbox.status().messages == 0)
    assert publisher.status().acknowledged == 4


def test_late_subscriber_gets_availability_state_and_health_alone(broker, outbox, publish, subscribe):
    """These three are retained; a score or an alarm of the past would be taken for news."""
    publisher = publish(broker)
    outbox.put_many([score(), state(), state(MachineState.WARNING), alarm(), health()])
    publisher.notify()
    wait_until(lambda: outbox.status().messages == 0)
    heard = subscribe(broker).wait_for(lambda heard: len(heard) >= 3)
    assert {message.leaf for message in heard} == {"availability", "state", "health"}
    assert all(message.retained for message in heard)
    assert [message.payload["state"] for message in heard if message.leaf == "state"] == ["warning"]


def test_clean_stop_delivers_the_rest_and_says_stopped(broker, outbox, publish, subscribe):
    """`stopped` comes after the last message, and no last will after it."""
    subscriber = subscribe(broker)
    publisher = publish(broker)
    subscriber.wait_for(lambda heard: availability(heard) == ["online"])
    outbox.put_many([score() for _ in range(300)])
    publisher.stop(10.0)
    heard = subscriber.wait_for(lambda heard: availability(heard)[-1] == "stopped")
    assert seqs_by_machine(heard)["fan"] == list(range(1, 301))
    assert heard[-1].payload == "stopped"
    assert outbox.status().messages == 0
    time.sleep(0.3)  # a last will would come within milliseconds
    assert availability(subscriber.heard) == ["online", "stopped"]


CHILD = """
import sys, time
from pathlib import Path
from edge_asd.messages import Messages, ModelIdentity, Moment, Topics
from edge_asd.mqtt.broker import BrokerSettings
from edge_asd.mqtt.publisher import Publisher
from edge_asd.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]), max_bytes=10_000_000)
messages = Messages(model=ModelIdentity(name="bldc", version="1", sha256="0" * 64), boot_id="b" * 36)
settings = BrokerSettings(host=sys.argv[2], port=int(sys.argv[3]), client_id="orin", protocol="3.1.1")
publisher = Publisher(settings, topics=Topics(site="hall", device="orin"), spool=outbox)
publisher.start()
print("started", flush=True)
while True:
    at = Moment(utc_s=time.time(), monotonic_s=time.monotonic(), clock_synced=True)
    for machine in ("fan", "pump"):
        score = messages.score(machine, at, score=1.0, threshold=2.0, coverage=1.0, latency_ms=5.0, engine="fake")
        outbox.put_many([score])
    publisher.notify()
    time.sleep(0.002)
"""


def test_killed_device_is_declared_offline_and_goes_on_without_a_gap(broker, tmp_path, subscribe):
    """Killed at random moments: the last will each time, and in the end every number of every machine arrived."""
    subscriber = subscribe(broker)
    moments = random.Random(3)
    rounds = 4
    for number in range(1, rounds + 1):
        arguments = [tmp_path / "child.db", broker.host, str(broker.port)]
        child = subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE)
        child.stdout.readline()
        subscriber.wait_for(lambda heard, n=number: availability(heard).count("online") == n)
        time.sleep(moments.uniform(0.01, 0.2))
        child.kill()
        child.communicate()
        subscriber.wait_for(lambda heard, n=number: availability(heard).count("offline") == n)
    left = Outbox(tmp_path / "child.db", max_bytes=10_000_000)
    seqs = seqs_by_machine(subscriber.heard)
    for message in left.pending(limit=100_000, after=0):
        seqs[message.machine].append(message.payload["seq"])
    left.close()
    assert availability(subscriber.heard) == ["online", "offline"] * rounds
    assert set(seqs) == {"fan", "pump"}
    for numbers in seqs.values():
        assert set(numbers) == set(range(1, max(numbers) + 1))


def test_only_a_window_of_messages_is_under_way(outbox, publish):
    """A broker that does not acknowledge gets in_flight messages and no more."""
    mute = MuteBroker()
    publisher = publish(mute, in_flight=8)
    outbox.put_many([score() for _ in range(100)])
    publisher.notify()
    wait_until(lambda: mute.messages == 7)  # and `online`
    time.sleep(0.3)
    assert mute.messages == 7
    mute.close()


def test_stop_does_not_wait_for_ever(outbox, publish):
    """A broker that acknowledges nothing holds the exit up for the drain timeout, and the messages stay."""
    mute = MuteBroker()
    publisher = publish(mute)
    wait_until(lambda: publisher.status().connected)
    outbox.put_many([score() for _ in range(10)])
    started_s = time.monotonic()
    publisher.stop(0.5)
    assert 0.5 <= time.monotonic() - started_s < 3.0
    assert outbox.status().messages == 10
    mute.close()


class FaultySpool:
    """A spool whose first deletion fails."""

    def __init__(self, outbox):
        self._outbox = outbox
        self.failed = False
        self.pending = outbox.pending
        self.last_row_id = outbox.last_row_id

    def delete(self, row_ids):
        if not self.failed:
            self.failed = True
            raise RuntimeError("a bug")
        self._outbox.delete(row_ids)


def test_a_bug_does_not_end_delivery(mosquitto, outbox, publish, caplog):
    """The trace is logged, the connection is made anew, and the messages are delivered again."""
    spool = FaultySpool(outbox)
    publisher = publish(mosquitto, spool=spool)
    outbox.put_many([score() for _ in range(10)])
    publisher.notify()
    wait_until(lambda: outbox.status().messages == 0)
    assert spool.failed
    assert "a bug" in caplog.text
    assert publisher.status().connections == 2


def test_spool_drains_far_faster_than_it_fills(mosquitto, outbox, publish):
    """16 machines say 17 messages a second; 500 a second is the least that catches up with an outage in good time."""
    outbox.put_many([score() for _ in range(3_000)])
    started_s = time.monotonic()
    publish(mosquitto)
    wait_until(lambda: outbox.status().messages == 0)
    assert time.monotonic() - started_s < 6.0


def test_in_flight_heeds_what_an_mqtt_5_broker_can_take(mosquitto, outbox, publish):
    """Mosquitto takes 20 at once and ends a connection that goes beyond: there is but one."""
    publisher = publish(mosquitto, in_flight=500)
    for number in range(64):
        publisher.keep(f"topic/{number}", b"x")
    outbox.put_many([score() for _ in range(500)])
    publisher.notify()
    wait_until(lambda: outbox.status().messages == 0)
    assert (publisher.status().connections, publisher.status().acknowledged) == (1, 500)

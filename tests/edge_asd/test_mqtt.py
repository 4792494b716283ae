"""Delivery against real brokers, and against bad ones."""

import contextlib
import logging
import random
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion

from edge_asd.messages import Messages, ModelIdentity, Moment, Topics
from edge_asd.mqtt.backoff import Backoff
from edge_asd.mqtt.broker import BrokerSettings
from edge_asd.mqtt.publisher import Publisher
from edge_asd.outbox import Outbox
from edge_asd.types import AlarmEvent, MachineState

TOPICS = Topics(site="hall", device="orin")
MESSAGES = Messages(model=ModelIdentity(name="bldc", version="1", sha256="0" * 64), boot_id="b" * 36)
PASSWORD = secrets.token_hex(8)
AT = Moment(utc_s=1_767_225_600.0, monotonic_s=1.0, clock_synced=True)


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

    def start(broker, spool=outbox, subscriptions=None, on_connected=(), in_flight=64, **settings):
        settings = {"client_id": "orin", "protocol": getattr(broker, "protocol", 5), **settings}
        publisher = Publisher(
            BrokerSettings(host=broker.host, port=broker.port, **settings),
            topics=TOPICS,
            spool=spool,
            subscriptions=subscriptions,
            on_connected=on_connected,
            in_flight=in_flight,
            backoff=Backoff(0.05, 0.2),
        )
        publisher.start()
        started.append(publisher)
        return publisher

    yield start
    for publisher in started:
        publisher.stop(0.0)


def score(machine="fan", value=1.0):
    return MESSAGES.score(machine, AT, score=value, threshold=2.0, coverage=1.0, latency_ms=5.0, engine="fake")


def state(new=MachineState.NORMAL):
    return MESSAGES.state("fan", AT, state=new, previous=None, reason="start", alarm_id=None)


def alarm():
    event = AlarmEvent(
        kind="new", alarm_id="a1", began_utc_s=1.0, duration_s=1.0, score=3.0, peak_score=3.0, threshold=2.0
    )
    return MESSAGES.alarm("fan", AT, event)


def health():
    return MESSAGES.health(
        AT,
        versions={},
        engine="fake",
        uptime_s=1.0,
        clock_max_error_ms=None,
        counters={},
        machine_counters={},
        spool={},
    )


def wait_until(condition, timeout_s=10.0):
    give_up_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > give_up_s:
            raise TimeoutError("the condition did not come true")
        time.sleep(0.005)


def seqs_by_machine(heard):
    """The numbers of each machine's messages as they came, historical or not."""
    seqs = defaultdict(list)
    for message in heard:
        if isinstance(message.payload, dict):
            seqs[message.topic.split("/")[3]].append(message.payload["seq"])
    return seqs


def availability(heard):
    return [message.payload for message in heard if message.leaf == "availability"]


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


def test_refused_login_is_explained_once_and_tried_again(make_mosquitto, publish, caplog):
    """The message names broker and user and says what to check; the password is not in it."""
    broker = make_mosquitto(accounts={"orin": PASSWORD})
    broker.start()
    publisher = publish(broker, username="orin", password=PASSWORD[::-1])
    wait_until(lambda: publisher.status().trouble is not None)
    time.sleep(0.5)  # several attempts
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert f"127.0.0.1:{broker.port}: login of user 'orin' as client 'orin' refused (Not authorized)" in warnings[0]
    assert "check username and password" in warnings[0]
    assert PASSWORD[::-1] not in warnings[0]
    assert publisher.status().connections == 0


def test_right_login_is_taken(make_mosquitto, publish):
    """The same broker takes the right password."""
    broker = make_mosquitto(accounts={"orin": PASSWORD})
    broker.start()
    publisher = publish(broker, username="orin", password=PASSWORD)
    wait_until(lambda: publisher.status().connected)
    assert (publisher.status().connections, publisher.status().trouble) == (1, None)


class MuteBroker:
    """Takes logins and messages and acknowledges no message."""

    host = "127.0.0.1"
    protocol = "3.1.1"

    def __init__(self):
        self._listener = socket.create_server((self.host, 0))
        self.port = self._listener.getsockname()[1]
        self._received = bytearray()
        self._connections = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            connection.recv(4096)
            connection.sendall(bytes([0x20, 2, 0, 0]))  # CONNACK: accepted
            while data := connection.recv(65536):
                self._received += data

    @property
    def messages(self):
        """How many numbered messages came."""
        return self._received.count(b'"seq":')

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            connection.shutdown(socket.SHUT_RDWR)


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


@pytest.fixture
def say(broker):
    """A function that publishes as another client of the broker; keywords are paho's."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="operator")
    client.connect(broker.host, broker.port)
    client.loop_start()
    yield lambda topic, payload, **how: client.publish(topic, payload, qos=1, **how).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


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


def test_each_connection_subscribes_anew_and_is_told(make_mosquitto, publish):
    """After a restart of the broker commands come as before, and the callbacks ran once a connection."""
    broker = make_mosquitto()
    broker.start()
    got, told = [], []

    def fail():
        raise RuntimeError("a bug in a callback")

    publisher = publish(
        broker,
        subscriptions={"command": lambda received: got.append(received.payload)},
        on_connected=[fail, lambda: told.append(1)],
    )
    for number in (1, 2):
        wait_until(lambda n=number: publisher.status().connections == n and len(told) == n)
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
        heard = subscribe(broker).wait_for(lambda heard: any(message.payload == "new" for message in heard))
        time.sleep(0.1)
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


def test_broker_that_lacks_the_protocol_is_explained(amqtt_broker, publish, caplog):
    """MQTT 5 at a broker that knows 3.1.1 alone, and does not answer: the log says what to check."""
    publisher = publish(amqtt_broker, protocol=5, connect_timeout_s=0.5)
    wait_until(lambda: publisher.status().trouble is not None)
    assert (
        "no answer to the login; check host and port, and that a broker listens there that speaks MQTT 5" in caplog.text
    )


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


def test_in_flight_heeds_what_an_mqtt_5_broker_can_take(mosquitto, outbox, publish):
    """Mosquitto takes 20 at once and ends a connection that goes beyond: there is but one."""
    publisher = publish(mosquitto, in_flight=500)
    for number in range(64):
        publisher.keep(f"topic/{number}", b"x")
    outbox.put_many([score() for _ in range(500)])
    publisher.notify()
    wait_until(lambda: outbox.status().messages == 0)
    assert (publisher.status().connections, publisher.status().acknowledged) == (1, 500)


@given(st.floats(0.01, 10), st.floats(1, 1_000), st.lists(st.floats(0, 1), min_size=12, max_size=40))
def test_pauses_grow_within_their_bounds_and_spread(min_s, factor, draws):
    """Each lies in the upper half of a range that doubles from twice the shortest to the longest."""
    backoff = Backoff(min_s, min_s * factor, draw=iter(draws).__next__)
    pauses = [backoff.next_s() for _ in draws]
    for number, pause in enumerate(pauses):
        longest = min(min_s * 2 ** (number + 1), min_s * factor)
        assert max(longest / 2, min_s) <= pause <= longest * (1 + 1e-9)
    backoff = Backoff(1.0, 120.0)
    for _ in range(10):
        backoff.next_s()
    assert 60.0 <= backoff.next_s() <= 120.0
    backoff.reset()
    assert 1.0 <= backoff.next_s() <= 2.0


def test_login_that_is_followed_by_an_end_does_not_count_as_success(publish):
    """A broker that lets in and throws out gets growing pauses: they begin anew only once it took a message."""
    mute = MuteBroker()
    publisher = publish(mute)
    publisher._backoff.next_s()
    wait_until(lambda: publisher.status().connected)
    before = publisher._backoff._longest_s
    mute.close()
    wait_until(lambda: publisher.status().trouble is not None)
    assert publisher._backoff._longest_s >= before


class GarbageBroker:
    """Lets in, and then talks nonsense: other nonsense on each connection."""

    host = "127.0.0.1"
    protocol = "3.1.1"

    def __init__(self):
        self._listener = socket.create_server((self.host, 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        nonsense = random.Random(2)
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection, contextlib.suppress(OSError):
                connection.recv(4096)
                accepted = bytes([0x20, 2, 0, 0]) if self.connections % 2 else b""
                connection.sendall(accepted + nonsense.randbytes(nonsense.randrange(1, 60)))
                time.sleep(0.01)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
def test_nonsense_from_a_broker_is_survived(outbox, publish, protocol, caplog):
    """Whatever it says, the thread goes on and connects anew."""
    broker = GarbageBroker()
    outbox.put_many([score() for _ in range(10)])
    publisher = publish(broker, protocol=protocol, connect_timeout_s=0.5)
    wait_until(lambda: broker.connections > 12, timeout_s=30.0)
    assert publisher._thread.is_alive()
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == len(set(warnings)) > 0  # each trouble is told once
    broker.close()

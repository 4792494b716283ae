"""Brokers that refuse, do not answer or talk nonsense: told once, tried again after growing pauses."""

import contextlib
import logging
import random
import secrets
import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.mqtt.backoff import Backoff
from tests.edge_asd.mqtt.kit import MuteBroker, score, wait_until

PASSWORD = secrets.token_hex(8)


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


def test_broker_that_lacks_the_protocol_is_explained(amqtt_broker, publish, caplog):
    """MQTT 5 at a broker that knows 3.1.1 alone, and does not answer: the log says what to check."""
    publisher = publish(amqtt_broker, protocol=5, connect_timeout_s=0.5)
    wait_until(lambda: publisher.status().trouble is not None)
    assert (
        "no answer to the login; check host and port, and that a broker listens there that speaks MQTT 5" in caplog.text
    )


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

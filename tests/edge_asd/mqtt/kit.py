"""Messages to deliver, what a subscriber made of them, and a broker that acknowledges nothing."""

import socket
import threading
import time
from collections import defaultdict

from edge_asd.messages import Messages, ModelIdentity, Moment, Topics
from edge_asd.types import AlarmEvent, MachineState

TOPICS = Topics(site="hall", device="orin")

MESSAGES = Messages(model=ModelIdentity(name="bldc", version="1", sha256="0" * 64), boot_id="b" * 36)

AT = Moment(utc_s=1_767_225_600.0, monotonic_s=1.0, clock_synced=True)


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
        engine_trouble=None,
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

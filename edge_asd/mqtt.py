"""Spooled messages in, MQTT publications out, at least once and in their order."""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from edge_asd.messages import Topics, payload_bytes
from edge_asd.types import SpooledMessage

LOG = logging.getLogger(__name__)

_FAREWELL_S = 2.0
"""How long a clean exit waits for the broker to take `stopped` and the goodbye."""

_STEP_S = 1.0
"""How often paho looks after its keepalive while nothing else happens."""

_MAX_KEPT = 64
"""Topics that `keep` takes; more would be a bug."""

_MAX_RECEIVED_BYTES = 64 * 1024

Handler: TypeAlias = Callable[[str, bytes], None]
"""Takes the topic and the payload of a received message."""


class Spool(Protocol):
    """What the publisher needs of the outbox."""

    def pending(self, *, limit: int, after: int) -> Sequence[SpooledMessage]:
        """The oldest messages above a row id."""

    def delete(self, row_ids: Collection[int]) -> None:
        """Forgets acknowledged messages."""

    def last_row_id(self) -> int:
        """The newest message's row id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """Where the broker is and how to log in.

    in_flight: how many messages may be under way without their acknowledgement.
    reconnect_min_s, reconnect_max_s: the pause between attempts doubles from one to the other.
    """

    host: str
    port: int
    client_id: str
    username: str | None = None
    password: str | None = None
    keepalive_s: int = 30
    connect_timeout_s: float = 10.0
    in_flight: int = 64
    reconnect_min_s: float = 1.0
    reconnect_max_s: float = 120.0

    @property
    def endpoint(self) -> str:
        """The broker as messages name it."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherStatus:
    """What became of the messages since the start; trouble is None while connected."""

    connected: bool
    connections: int
    acknowledged: int
    trouble: str | None


class _Link:
    """One connection to the broker: a paho client that lives no longer than it, so that nothing is left over in it.

    Only the publisher's thread calls it, callbacks included. paho runs no thread of its own here: one that died of an
    exception would leave is_connected() true and nothing delivered.

    Raises:
        OSError: the broker cannot be reached.
    """

    def __init__(self, settings: BrokerSettings, topics: Topics, subscriptions: Mapping[str, Handler]) -> None:
        self.is_up = False
        self.refusal: str | None = None
        self.loss = "the broker closed the connection"
        self._acknowledged: list[int] = []
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=settings.client_id, reconnect_on_failure=False
        )
        self._client.connect_timeout = settings.connect_timeout_s
        self._client.max_inflight_messages_set(settings.in_flight + 2)  # the window is ours; 2 more for availability
        self._client.username_pw_set(settings.username, settings.password)
        self._client.will_set(topics.availability, "offline", qos=1, retain=True)
        self._client.on_connect = self._on_connect
        self._client.on_publish = self._on_publish
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        for topic_filter, handler in subscriptions.items():
            self._client.message_callback_add(topic_filter, _guarded(handler))
        self._client.connect(settings.host, settings.port, keepalive=settings.keepalive_s)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, logged in or not."""
        return self._client.socket() is not None

    def publish(self, topic: str, payload: bytes | str, *, retain: bool) -> int:
        """Sends with QoS 1 and returns the packet's id."""
        return self._client.publish(topic, payload, qos=1, retain=retain).mid

    def subscribe(self, topic_filters: Collection[str]) -> None:
        """Asks the broker for these topics with QoS 1."""
        if topic_filters:
            self._client.subscribe([(topic_filter, 1) for topic_filter in topic_filters])

    def take_acknowledged(self) -> list[int]:
        """The packet ids that the broker acknowledged since the last call."""
        acknowledged, self._acknowledged = self._acknowledged, []
        return acknowledged

    def step(self, wake: socket.socket, timeout_s: float) -> None:
        """Waits for the network or for something to read from `wake`, and does what the network wants."""
        connection = self._client.socket()
        if connection is None:
            return
        writers = [connection] if self._client.want_write() else []
        readable, writable, _ = select.select([connection, wake], writers, [], timeout_s)
        if wake in readable:
            wake.recv(4096)
        if connection in readable:
            self._client.loop_read()
        if writable:
            self._client.loop_write()
        self._client.loop_misc()

    def disconnect(self) -> None:
        """Says goodbye, so that the broker forgets the last will."""
        self._client.disconnect()

    def close(self) -> None:
        """Drops the connection where it is still open; the broker then publishes the last will."""
        connection = self._client.socket()
        if connection is not None:
            connection.close()

    def _on_connect(self, _client: object, _data: object, _flags: object, reason: ReasonCode, _more: object) -> None:
        if reason.is_failure:
            self.refusal = str(reason)
        else:
            self.is_up = True

    def _on_publish(self, _client: object, _data: object, mid: int, _reason: object, _more: object) -> None:
        self._acknowledged.append(mid)

    def _on_disconnect(self, _client: object, _data: object, _flags: object, reason: ReasonCode, _more: object) -> None:
        self.is_up = False
        self.loss = str(reason)

    def _on_subscribe(
        self, _client: object, _data: object, _mid: int, reasons: Sequence[ReasonCode], _more: object
    ) -> None:
        for reason in reasons:
            if reason.is_failure:
                LOG.warning(
                    "the MQTT broker refused a subscription (%s): commands will not come; check its ACL", reason
                )


def _guarded(handler: Handler) -> Callable[[paho.Client, object, paho.MQTTMessage], None]:
    """The handler as paho calls it: a fault in it, or a message that it should not see, harms nothing."""

    def receive(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        if message.retain:
            return  # from the past: a command that lies at the broker would be obeyed anew on each connection
        if len(message.payload) > _MAX_RECEIVED_BYTES:
            LOG.warning("MQTT message on %s is too large (%d bytes), ignored", message.topic, len(message.payload))
            return
        try:
            handler(message.topic, bytes(message.payload))
        except Exception:
            LOG.exception("MQTT message on %s could not be handled", message.topic)

    return receive


class Publisher:
    """Delivers what the spool holds, in its order, from a thread of its own.

    A message is deleted from the spool when the broker has acknowledged it. What was under way when a connection broke
    is offered again on the next one. `historical` marks what was committed before the present connection came up.

    The broker may be absent or refuse the login for any time: attempts go on, and the log says so once.

    subscriptions: topic filters, subscribed with QoS 1 on each connection before `online` is said. Their handlers are
    called in the publisher's thread and hold delivery up while they run; an exception in one is logged. Messages that
    the broker retained from before the subscription, and those above 64 KiB, are not handed on.
    on_connected: called in the publisher's thread on each connection, after `online`; an exception is logged.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        topics: Topics,
        spool: Spool,
        subscriptions: Mapping[str, Handler] | None = None,
        on_connected: Sequence[Callable[[], None]] = (),
    ) -> None:
        self._subscriptions = dict(subscriptions or {})
        self._on_connected = tuple(on_connected)
        self._kept: dict[str, bytes] = {}
        self._kept_due: set[str] = set()
        self._kept_lock = threading.Lock()
        self._settings = settings
        self._topics = topics
        self._spool = spool
        self._stopping = threading.Event()
        self._drain_until_s = 0.0
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._pause_s = settings.reconnect_min_s
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._connected = False
        self._connections = 0
        self._acknowledged = 0
        self._trouble: str | None = None

    def start(self) -> None:
        """Begins to connect and deliver; returns at once."""
        self._thread.start()

    def notify(self) -> None:
        """Says that the spool holds something new; any thread may call it."""
        try:
            self._waker.send(b"!")
        except BlockingIOError:
            return  # enough wake-ups wait to be read

    def keep(self, topic: str, payload: bytes) -> None:
        """Publishes a retained message outside the contract now, and again on each connection; any thread may call it.

        It is not spooled; a second call for a topic replaces the first, or says the same again. An empty payload makes
        the broker forget the topic.

        Raises:
            ValueError: that would be more than 64 topics.
        """
        with self._kept_lock:
            if topic not in self._kept and len(self._kept) >= _MAX_KEPT:
                raise ValueError(f"{topic}: {_MAX_KEPT} topics are kept already")
            self._kept[topic] = payload
            self._kept_due.add(topic)
        self.notify()

    def stop(self, drain_timeout_s: float) -> None:
        """Delivers what is left within the time where the broker is connected, says `stopped` and disconnects."""
        self._drain_until_s = time.monotonic() + drain_timeout_s
        self._stopping.set()
        self.notify()
        self._thread.join(drain_timeout_s + _FAREWELL_S + 1.0)
        if self._thread.is_alive():
            LOG.warning("MQTT broker %s: gave up waiting for the connection to end", self._settings.endpoint)

    def status(self) -> PublisherStatus:
        """What became of the messages since the start."""
        return PublisherStatus(
            connected=self._connected,
            connections=self._connections,
            acknowledged=self._acknowledged,
            trouble=self._trouble,
        )

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._serve()
            except OSError as error:
                self._report(f"{error}; check host and port, and whether the broker runs")
            except Exception:
                # A bug must not end delivery for good while the device goes on listening.
                LOG.exception("MQTT delivery to %s failed; starting it again", self._settings.endpoint)
            self._connected = False
            if self._stopping.wait(self._pause_s):
                return
            self._pause_s = min(2 * self._pause_s, self._settings.reconnect_max_s)

    def _serve(self) -> None:
        """One connection from dialling to its end."""
        link = _Link(self._settings, self._topics, self._subscriptions)
        try:
            self._log_in(link)
            if link.is_up:
                self._pause_s = self._settings.reconnect_min_s
                self._deliver(link)
        finally:
            link.close()

    def _log_in(self, link: _Link) -> None:
        give_up_s = time.monotonic() + self._settings.connect_timeout_s
        while link.is_open and not link.is_up and link.refusal is None and not self._stopping.is_set():
            left_s = give_up_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("no answer to the login")
            link.step(self._wake, min(left_s, _STEP_S))
        if link.refusal is not None:
            self._report(
                f"login of user {self._settings.username!r} as client {self._settings.client_id!r} refused "
                f"({link.refusal}); check username and password in the configuration and the broker's accounts"
            )
        elif not link.is_up and not self._stopping.is_set():
            raise ConnectionError(f"connection lost during the login ({link.loss})")

    def _deliver(self, link: _Link) -> None:
        """Offers the spool over a connection that is up, until it is lost or the publisher stops."""
        horizon = self._spool.last_row_id()
        self._announce(link)
        offered_row = 0
        under_way: dict[int, int] = {}  # packet id -> row id
        while link.is_up:
            self._settle(link, under_way)
            self._offer_kept(link)
            for message in self._spool.pending(limit=self._settings.in_flight - len(under_way), after=offered_row):
                topic = self._topics.of(message.machine, message.leaf)
                payload = payload_bytes(message, historical=message.row_id <= horizon)
                under_way[link.publish(topic, payload, retain=message.retain)] = message.row_id
                offered_row = message.row_id
            if self._stopping.is_set() and (not under_way or time.monotonic() > self._drain_until_s):
                self._say_goodbye(link)
                self._settle(link, under_way)
                return
            link.step(self._wake, _STEP_S if not self._stopping.is_set() else 0.1)
        self._settle(link, under_way)
        self._report(f"connection lost ({link.loss}); messages wait in the spool")

    def _announce(self, link: _Link) -> None:
        """Begins a connection: commands can come from the moment that others hear of it."""
        link.subscribe(self._subscriptions)
        link.publish(self._topics.availability, "online", retain=True)
        self._connected = True
        self._connections += 1
        self._trouble = None
        LOG.info("MQTT broker %s: connected", self._settings.endpoint)
        with self._kept_lock:
            self._kept_due.update(self._kept)
        for callback in self._on_connected:
            try:
                callback()
            except Exception:
                LOG.exception("MQTT broker %s: what should follow a connection failed", self._settings.endpoint)

    def _offer_kept(self, link: _Link) -> None:
        with self._kept_lock:
            due = [(topic, self._kept[topic]) for topic in sorted(self._kept_due)]
            self._kept_due.clear()
        for topic, payload in due:
            link.publish(topic, payload, retain=True)

    def _settle(self, link: _Link, under_way: dict[int, int]) -> None:
        """Deletes what the broker acknowledged."""
        row_ids = [under_way.pop(mid) for mid in link.take_acknowledged() if mid in under_way]
        if row_ids:
            self._spool.delete(row_ids)
            self._acknowledged += len(row_ids)

    def _say_goodbye(self, link: _Link) -> None:
        """Leaves `stopped` behind and disconnects; without an answer the last will tells the truth."""
        link.publish(self._topics.availability, "stopped", retain=True)
        link.disconnect()
        give_up_s = time.monotonic() + _FAREWELL_S
        while link.is_open and time.monotonic() < give_up_s:
            link.step(self._wake, 0.1)

    def _report(self, trouble: str) -> None:
        """Logs a trouble once, however often it comes again before the next connection."""
        level = logging.DEBUG if trouble == self._trouble else logging.WARNING
        LOG.log(level, "MQTT broker %s: %s; trying again with growing pauses", self._settings.endpoint, trouble)
        self._trouble = trouble

"""Spooled messages in, MQTT publications out, at least once and in their order."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edge_asd.messages import Topics, payload_bytes
from edge_asd.mqtt.backoff import Backoff
from edge_asd.mqtt.broker import BrokerSettings
from edge_asd.mqtt.link import Handler, Link
from edge_asd.types import SpooledMessage

LOG = logging.getLogger(__name__)

_FAREWELL_S = 2.0
"""How long a clean exit waits for the broker to take `stopped` and the goodbye."""

_STEP_S = 1.0
"""How often paho looks after its keepalive while nothing else happens."""

RECONNECT_MIN_S = 1.0
RECONNECT_MAX_S = 120.0

_DELETED_AT_ONCE = 128
"""Acknowledged messages that are deleted together while more go out; a crash before that repeats them."""

_MAX_REPORTED = 16
"""Different troubles that are told before the broker takes a message again."""

_MAX_KEPT = 64
"""Topics that `keep` takes; more would be a bug."""


class Spool(Protocol):
    """What the publisher needs of the outbox."""

    def pending(self, *, limit: int, after: int) -> Sequence[SpooledMessage]:
        """The oldest messages above a row id."""

    def delete(self, row_ids: Collection[int]) -> None:
        """Forgets acknowledged messages."""

    def last_row_id(self) -> int:
        """The newest message's row id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherStatus:
    """What became of the messages since the start; trouble is None while connected."""

    connected: bool
    connections: int
    acknowledged: int
    trouble: str | None


class _UnderWay:
    """What was sent over a connection, until it is acknowledged and deleted from the spool, many at once."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._row_ids: dict[int, int] = {}  # by packet id
        self._delivered: list[int] = []

    @property
    def waiting(self) -> int:
        """How many are not acknowledged."""
        return len(self._row_ids)

    def sent(self, packet_id: int, row_id: int) -> None:
        """A message went out."""
        self._row_ids[packet_id] = row_id

    def acknowledged(self, packet_ids: Sequence[int]) -> int:
        """The broker took these packets; returns how many were messages of the spool."""
        row_ids = [self._row_ids.pop(packet_id) for packet_id in packet_ids if packet_id in self._row_ids]
        self._delivered += row_ids
        if len(self._delivered) >= _DELETED_AT_ONCE:
            self.delete()
        return len(row_ids)

    def delete(self) -> None:
        """Takes the acknowledged ones out of the spool."""
        if self._delivered:
            self._spool.delete(self._delivered)
            self._delivered = []


class Publisher:
    """Delivers what the spool holds, in its order, from a thread of its own.

    A message is deleted from the spool when the broker has acknowledged it. What was under way when a connection broke
    is offered again on the next one. `historical` marks what was committed before the present connection came up.

    The broker may be absent or refuse the login for any time: attempts go on, and the log says so once.

    subscriptions: topic filters, subscribed with QoS 1 on each connection before `online` is said. Their handlers are
    called in the publisher's thread and hold delivery up while they run; an exception in one is logged. Messages
    above 64 KiB are not handed on.
    on_connected: called in the publisher's thread on each connection, after `online`; an exception is logged.
    in_flight: how many messages may be under way without their acknowledgement; the broker may allow fewer.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        topics: Topics,
        spool: Spool,
        subscriptions: Mapping[str, Handler] | None = None,
        on_connected: Sequence[Callable[[], None]] = (),
        in_flight: int = 64,
        backoff: Backoff | None = None,
    ) -> None:
        self._in_flight = in_flight
        self._backoff = backoff or Backoff(RECONNECT_MIN_S, RECONNECT_MAX_S)
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
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._connected = False
        self._connections = 0
        self._acknowledged = 0
        self._trouble: str | None = None
        self._reported: set[str] = set()

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
        the broker forget the topic. A broker that refuses it is logged; delivery goes on.

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
        """Delivers what is left within the time where the broker answers by now, says `stopped` and disconnects."""
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
                self._report(self._settings.why_unreachable(error))
            except Exception:
                # A bug must not end delivery for good while the device goes on listening.
                LOG.exception("MQTT delivery to %s failed; starting it again", self._settings.endpoint)
            self._connected = False
            if self._stopping.wait(self._backoff.next_s()):
                return

    def _serve(self) -> None:
        """One connection from dialling to its end."""
        link = Link(
            self._settings,
            will_topic=self._topics.availability,
            subscriptions=self._subscriptions,
            in_flight=self._in_flight,
        )
        try:
            self._log_in(link)
            if link.is_up:
                self._deliver(link)
        finally:
            link.close()

    def _log_in(self, link: Link) -> None:
        give_up_s = time.monotonic() + self._settings.connect_timeout_s
        # A stop does not cut a login short: what a short run had to say would wait for the next one.
        while link.is_open and not link.is_up and link.refusal is None and not self._is_time_up():
            left_s = give_up_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("no answer to the login")
            link.step(self._wake, min(left_s, _STEP_S))
        if link.refusal is not None:
            self._report(self._settings.why_refused(link.refusal))
        elif not link.is_up and not self._stopping.is_set():
            raise ConnectionError(f"connection lost during the login ({link.loss})")

    def _deliver(self, link: Link) -> None:
        """Offers the spool over a connection that is up, until it is lost or the publisher stops."""
        horizon = self._spool.last_row_id()
        self._announce(link)
        offered_row = 0
        messages = _UnderWay(self._spool)
        while link.is_up and link.rejection is None:
            self._settle(link, messages)
            self._offer_kept(link)
            offered = self._spool.pending(limit=link.room, after=offered_row) if link.room else ()
            for message in offered:
                topic = self._topics.of(message.machine, message.leaf)
                payload = payload_bytes(message, historical=message.row_id <= horizon)
                messages.sent(link.publish(topic, payload, retain=message.retain), message.row_id)
                offered_row = message.row_id
            if not offered:
                messages.delete()  # nothing else to do
            if self._is_time_up() or (self._stopping.is_set() and not messages.waiting):
                self._say_goodbye(link)
                break
            link.step(self._wake, _STEP_S if not self._stopping.is_set() else 0.1)
        self._settle(link, messages)
        messages.delete()
        if link.rejection is not None:
            self._report(
                f"it refused messages ({link.rejection}), which wait in the spool; check that its ACL lets user "
                f"{self._settings.username!r} write {self._topics.all}"
            )
        elif not self._stopping.is_set():
            self._report(f"connection lost ({link.loss}); messages wait in the spool")

    def _is_time_up(self) -> bool:
        """Whether the time is over that a stop leaves for delivery."""
        return self._stopping.is_set() and time.monotonic() > self._drain_until_s

    def _announce(self, link: Link) -> None:
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

    def _offer_kept(self, link: Link) -> None:
        with self._kept_lock:
            due = [(topic, self._kept[topic]) for topic in sorted(self._kept_due)[: link.room]]
            self._kept_due.difference_update(topic for topic, _ in due)
        for topic, payload in due:
            link.publish(topic, payload, retain=True, may_be_refused=True)

    def _settle(self, link: Link, messages: _UnderWay) -> None:
        """Takes note of what the broker acknowledged."""
        acknowledged = link.take_acknowledged()
        if acknowledged:
            # Only now is it proved that the broker takes what it is sent: a login alone is no success.
            self._backoff.reset()
            self._reported.clear()
        self._acknowledged += messages.acknowledged(acknowledged)

    def _say_goodbye(self, link: Link) -> None:
        """Leaves `stopped` behind and disconnects; without an answer the last will tells the truth."""
        if link.room == 0:
            return  # a broker that acknowledges nothing: its last will tells enough
        link.publish(self._topics.availability, "stopped", retain=True)
        link.disconnect()
        give_up_s = time.monotonic() + _FAREWELL_S
        while link.is_open and time.monotonic() < give_up_s:
            link.step(self._wake, 0.1)

    def _report(self, trouble: str) -> None:
        """Logs a trouble once, however often it comes again before the broker takes a message."""
        is_news = trouble not in self._reported and len(self._reported) < _MAX_REPORTED
        if is_news:
            self._reported.add(trouble)
        level = logging.WARNING if is_news else logging.DEBUG
        LOG.log(level, "MQTT broker %s: %s; trying again with growing pauses", self._settings.endpoint, trouble)
        self._trouble = trouble

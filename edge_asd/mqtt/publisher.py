"""Spooled messages in, MQTT publications out, at least once and in their order."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from edge_asd.messages import Topics, payload_bytes
from edge_asd.mqtt.backoff import Backoff
from edge_asd.mqtt.broker import BrokerSettings
from edge_asd.mqtt.kept import KeptMessages
from edge_asd.mqtt.link import Handler, Link
from edge_asd.mqtt.under_way import Spool, UnderWay

LOG = logging.getLogger(__name__)

_FAREWELL_S = 2.0
"""How long a clean exit waits for the broker to take `stopped` and the goodbye."""

_STEP_S = 1.0
"""How often paho looks after its keepalive while nothing else happens."""

RECONNECT_MIN_S = 1.0
RECONNECT_MAX_S = 120.0

_MAX_REPORTED = 16
"""Different troubles that are told before the broker takes a message again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherStatus:
    """What became of the messages since the start; trouble is None while connected."""

    connected: bool
    connections: int
    acknowledged: int
    trouble: str | None


class Publisher:
    """Delivers what the spool holds, in its order, from a thread of its own.

    A message is deleted from the spool when the broker has acknowledged it. What was under way when a connection broke
    is offered again on the next one. `historical` marks what was committed before the present connection came up.

    The broker may be absent or refuse the login for any time: attempts go on, and the log says so once.

    subscriptions: topic filters, subscribed with QoS 1 on each connection before `online` is said. Their handlers are
    called in the publisher's thread and hold delivery up while they run; an exception in one is logged. Messages
    above 64 KiB are not handed on.
    in_flight: how many messages may be under way without their acknowledgement; the broker may allow fewer.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        topics: Topics,
        spool: Spool,
        subscriptions: Mapping[str, Handler] | None = None,
        in_flight: int = 64,
        backoff: Backoff | None = None,
    ) -> None:
        self._in_flight = in_flight
        self._backoff = backoff or Backoff(RECONNECT_MIN_S, RECONNECT_MAX_S)
        self._subscriptions = dict(subscriptions or {})
        self._kept = KeptMessages()
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
        self._kept.put(topic, payload)
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
        messages = UnderWay(self._spool)
        while link.is_up and link.rejection is None:
            self._settle(link, messages)
            for topic, kept in self._kept.take_due(link.room):
                link.publish(topic, kept, retain=True, may_be_refused=True)
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
        self._kept.begin()

    def _settle(self, link: Link, messages: UnderWay) -> None:
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

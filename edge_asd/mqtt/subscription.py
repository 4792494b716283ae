"""Topic filters in, the messages of a broker out, through a bounded queue; it comes back when the broker does."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from types import TracebackType

import paho.mqtt.client as paho
from paho.mqtt.reasoncodes import ReasonCode

from edge_asd.errors import UnavailableError
from edge_asd.mqtt.broker import BrokerSettings
from edge_asd.mqtt.link import Received

_QUEUE_LENGTH = 10_000  # when it is full, the broker has to wait


class Subscription:
    """Messages of a broker, with QoS 1, while a context lasts.

    session_s: how long the broker keeps messages for us while the connection is lost; 0 does not. On leaving it is told
    to forget them.

    Raises:
        UnavailableError: on entering, the broker cannot be reached, or refuses the login.
    """

    def __init__(self, broker: BrokerSettings, topics: Sequence[str], *, session_s: int = 0) -> None:
        self.broker = broker
        self.trouble: str | None = None
        self.losses = 0
        self._topics = list(topics)
        self._session_s = session_s
        self._messages: queue.Queue[Received] = queue.Queue(_QUEUE_LENGTH)
        self._logins: queue.SimpleQueue[ReasonCode] = queue.SimpleQueue()
        self._subscribed: queue.SimpleQueue[Sequence[ReasonCode]] = queue.SimpleQueue()

    def __enter__(self) -> Subscription:
        endpoint = f"MQTT broker {self.broker.endpoint}"
        try:
            self._client = self.broker.client(reconnect=True, session_s=self._session_s)
            self._client.reconnect_delay_set(1, 10)
            self._client.on_connect = self._on_connect
            self._client.on_disconnect = self._on_disconnect
            self._client.on_subscribe = self._on_subscribe
            self._client.on_message = self._on_message
            self.broker.connect(self._client, session_s=self._session_s)
        except OSError as error:
            raise UnavailableError(f"{endpoint}: {self.broker.why_unreachable(error)}") from error
        self._client.loop_start()
        try:
            reason = self._logins.get(timeout=self.broker.connect_timeout_s)
            refused = self.broker.why_refused(reason) if reason.is_failure else None
            if refused is None and any(
                granted.is_failure for granted in self._subscribed.get(timeout=self.broker.connect_timeout_s)
            ):
                refused = f"the subscription to {', '.join(self._topics)} is refused; check the broker's ACL"
        except queue.Empty:
            refused = self.broker.why_unreachable(TimeoutError("no answer to the login"))
        if refused is not None:
            self._leave()
            raise UnavailableError(f"{endpoint}: {refused}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()
        if self._session_s:
            self._end_session()

    def get(self, timeout_s: float) -> Received | None:
        """The next message, or None where none comes in time."""
        try:
            return self._messages.get(timeout=max(timeout_s, 0.0))
        except queue.Empty:
            return None

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1; returns when the broker has it.

        Raises:
            UnavailableError: it did not take it in time.
        """
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        info.wait_for_publish(self.broker.connect_timeout_s)
        if not info.is_published():
            raise UnavailableError(
                f"MQTT broker {self.broker.endpoint}: it did not take a message to {topic} within "
                f"{self.broker.connect_timeout_s:.0f} s; check the connection to it"
            )

    def _leave(self) -> None:
        self._client.on_message = None  # nothing must wait for room in the queue any more
        self._client.on_disconnect = None
        self._client.disconnect()
        self._client.loop_stop()

    def _end_session(self) -> None:
        """Logs in once more without a session, which ends the old one; a broker that is away forgets it by itself."""

        def leave(client: paho.Client, *_: object) -> None:
            client.disconnect()

        client = self.broker.client(reconnect=False)
        client.on_connect = leave
        try:
            self.broker.connect(client)
            client.loop_forever()
        except OSError:
            return

    def _on_connect(
        self, client: paho.Client, _data: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        self._logins.put(reason)
        if reason.is_failure:
            self.trouble = f"login refused ({reason})"
        else:
            self.trouble = None
            client.subscribe([(topic, 1) for topic in self._topics])

    def _on_subscribe(
        self, _client: object, _data: object, _packet_id: int, granted: Sequence[ReasonCode], _properties: object
    ) -> None:
        self._subscribed.put(granted)

    def _on_disconnect(
        self, _client: object, _data: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        self.losses += 1
        self.trouble = f"connection lost ({reason}), trying again"

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        self._messages.put(Received(topic=message.topic, payload=bytes(message.payload), retained=message.retain))

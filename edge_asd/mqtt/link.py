"""One connection to the broker, from dialling to its end: packets out, acknowledgements and received messages in."""

from __future__ import annotations

import logging
import select
import socket
import ssl
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import paho.mqtt.client as paho
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_asd.mqtt.broker import BrokerSettings

LOG = logging.getLogger(__name__)

_MAX_RECEIVED_BYTES = 64 * 1024
_SESSION_TAKEN_OVER = 142


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One message as the broker sent it; retained where it lay there before the subscription."""

    topic: str
    payload: bytes
    retained: bool


Handler: TypeAlias = Callable[[Received], None]


class Link:
    """A paho client that lives no longer than its connection, so that nothing is left over in it.

    One thread alone calls it, callbacks included. paho runs no thread of its own here: one that died of an exception
    would leave is_connected() true and nothing delivered.

    will_topic: where the broker says `offline`, retained, when the connection is lost.
    in_flight: how many messages may be under way without their acknowledgement; the broker may allow fewer.

    Raises:
        OSError: the broker cannot be reached, or a file of the TLS settings cannot be used.
    """

    def __init__(
        self, settings: BrokerSettings, *, will_topic: str, subscriptions: Mapping[str, Handler], in_flight: int
    ) -> None:
        self.is_up = False
        self.refusal: ReasonCode | None = None
        self.rejection: str | None = None
        self.loss = "the broker closed the connection"
        self._in_flight = in_flight
        self._under_way: set[int] = set()
        self._acknowledged: list[int] = []
        self._may_be_refused: dict[int, str] = {}
        self._client = settings.client(reconnect=False)
        self._client.max_inflight_messages_set(0)  # no bound of paho's, which would queue what is beyond it
        self._client.will_set(will_topic, "offline", qos=1, retain=True)
        self._client.on_connect = self._on_connect
        self._client.on_publish = self._on_publish
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        for topic_filter, handler in subscriptions.items():
            self._client.message_callback_add(topic_filter, _guarded(handler))
        settings.connect(self._client)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, logged in or not."""
        return self._client.socket() is not None

    @property
    def room(self) -> int:
        """How many more messages may be published now."""
        return max(self._in_flight - len(self._under_way), 0)

    def publish(self, topic: str, payload: bytes | str, *, retain: bool, may_be_refused: bool = False) -> int:
        """Sends with QoS 1 and returns the packet's id.

        may_be_refused: where the broker does, it is logged, and no `rejection`.
        """
        packet_id = self._client.publish(topic, payload, qos=1, retain=retain).mid
        self._under_way.add(packet_id)
        if may_be_refused:
            self._may_be_refused[packet_id] = topic
        return packet_id

    def subscribe(self, topic_filters: Collection[str]) -> None:
        """Asks the broker for these topics with QoS 1."""
        if topic_filters:
            self._client.subscribe([(topic_filter, 1) for topic_filter in topic_filters])

    def take_acknowledged(self) -> list[int]:
        """The ids of the packets that the broker took since the last call."""
        acknowledged, self._acknowledged = self._acknowledged, []
        return acknowledged

    def step(self, wake: socket.socket, timeout_s: float) -> None:
        """Waits for the network or for something to read from `wake`, and does what the network wants."""
        connection = self._client.socket()
        if connection is None:
            return
        # Of what TLS has read and decrypted already, select knows nothing.
        decrypted = isinstance(connection, ssl.SSLSocket) and connection.pending() > 0
        writers = [connection] if self._client.want_write() else []
        readable, writable, _ = select.select([connection, wake], writers, [], 0.0 if decrypted else timeout_s)
        if wake in readable:
            wake.recv(4096)
        if decrypted or connection in readable:
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

    def _on_connect(
        self, _client: object, _data: object, _flags: object, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self.refusal = reason
            return
        # paho does not heed it, and a broker ends a connection that goes beyond.
        self._in_flight = min(self._in_flight, getattr(properties, "ReceiveMaximum", self._in_flight))
        self.is_up = True

    def _on_publish(self, _client: object, _data: object, packet_id: int, reason: ReasonCode, _more: object) -> None:
        self._under_way.discard(packet_id)
        unimportant = self._may_be_refused.pop(packet_id, None)
        if reason.is_failure and unimportant is not None:
            LOG.warning("the MQTT broker refused a message to %s (%s); check its ACL", unimportant, reason)
        elif reason.is_failure:
            self.rejection = str(reason)
        else:
            self._acknowledged.append(packet_id)

    def _on_disconnect(self, _client: object, _data: object, _flags: object, reason: ReasonCode, _more: object) -> None:
        self.is_up = False
        self.loss = str(reason)
        if reason.value == _SESSION_TAKEN_OVER:
            self.loss += ": another client logged in with the same client_id"

    def _on_subscribe(
        self, _client: object, _data: object, _packet_id: int, reasons: Sequence[ReasonCode], _more: object
    ) -> None:
        for reason in reasons:
            if reason.is_failure:
                LOG.warning(
                    "the MQTT broker refused a subscription (%s): commands will not come; check its ACL", reason
                )


def _guarded(handler: Handler) -> Callable[[paho.Client, object, paho.MQTTMessage], None]:
    """The handler as paho calls it: a fault in it, or a huge message, harms nothing."""

    def receive(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        if len(message.payload) > _MAX_RECEIVED_BYTES:
            LOG.warning("MQTT message on %s is too large (%d bytes), ignored", message.topic, len(message.payload))
            return
        try:
            handler(Received(topic=message.topic, payload=bytes(message.payload), retained=message.retain))
        except Exception:
            LOG.exception("MQTT message on %s could not be handled", message.topic)

    return receive

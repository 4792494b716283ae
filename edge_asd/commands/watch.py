"""edge-asd watch: a broker in, a live table of devices, machines, scores and alarms out, or one JSON line a message."""

from __future__ import annotations

import argparse
import json
import os
import queue
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from edge_asd.board import Board
from edge_asd.config import load_config
from edge_asd.errors import UnavailableError, UsageError
from edge_asd.messages import ROOT, check_topic_name

_DEFAULT_URL = "mqtt://localhost:1883"
_LOGIN_TIMEOUT_S = 10.0
_FRAME_S = 0.25
_QUEUE_LENGTH = 10_000  # when it is full, the broker has to wait


@dataclass(frozen=True, slots=True, kw_only=True)
class _Broker:
    host: str
    port: int
    username: str | None
    password: str | None

    @property
    def endpoint(self) -> str:
        return f"{self.host}:{self.port}"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of `edge-asd`."""
    parser = subparsers.add_parser(
        "watch",
        help="watch machines, scores and alarms live",
        description="Show all devices of a broker in a live table: each machine's state, its score against the "
        "threshold, and the latest alarms. Ctrl-C ends it. Exits 69 when the broker cannot be reached.",
    )
    parser.add_argument(
        "--url",
        metavar="URL",
        help="the broker, mqtt://[USER[:PASSWORD]@]HOST[:PORT]; without it that of --config, that of the environment "
        f"variable MQTT_URL, or {_DEFAULT_URL}",
    )
    parser.add_argument("--config", type=Path, metavar="DEVICE.yaml", help="watch this device, on its broker")
    parser.add_argument("--site", help="only this site")
    parser.add_argument("--device", help="only devices of this name")
    parser.add_argument("--json", action="store_true", help="print one line of JSON a message and nothing else")
    parser.add_argument("--duration", type=float, metavar="S", help="end after so many seconds")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Watch until interrupted or the duration is over.

    Raises:
        UnavailableError: the broker cannot be reached, or refuses the login.
        UsageError: the URL, site or device cannot be.
        ConfigError: the configuration is wrong.
    """
    broker, site, device = _wanted(arguments)
    end_s = float("inf") if arguments.duration is None else time.monotonic() + arguments.duration
    try:
        with _Subscription(broker, [f"{ROOT}/{site or '+'}/{device or '+'}/#"]) as subscription:
            show = _print_json if arguments.json else _show_table
            show(subscription, lambda: time.monotonic() >= end_s)
    except KeyboardInterrupt:
        return 0
    return 0


def _wanted(arguments: argparse.Namespace) -> tuple[_Broker, str | None, str | None]:
    """The broker, site and device to watch; what the command line says goes before the configuration."""
    for option in ("site", "device"):
        name = getattr(arguments, option)
        if name is not None:
            check_topic_name(name, where=f"--{option}")
    if arguments.config is None:
        broker = _parse_url(arguments.url or os.environ.get("MQTT_URL") or _DEFAULT_URL)
        return broker, arguments.site, arguments.device
    config = load_config(arguments.config)
    mqtt = config.mqtt
    broker = _Broker(host=mqtt.host, port=mqtt.port, username=mqtt.username, password=mqtt.read_password())
    if arguments.url:
        broker = _parse_url(arguments.url)
    return broker, arguments.site or config.site, arguments.device or config.device


def _parse_url(url: str) -> _Broker:
    parts = urlsplit(url)
    try:
        port = parts.port or 1883
    except ValueError:
        port = 0
    if parts.scheme != "mqtt" or not parts.hostname or not port or parts.path not in {"", "/"}:
        # The URL itself is not repeated: it may hold a password.
        raise UsageError("the broker's URL cannot be used; expected mqtt://[USER[:PASSWORD]@]HOST[:PORT]")
    return _Broker(
        host=parts.hostname,
        port=port,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )


class _Subscription:
    """Messages of a broker, through paho's thread and a bounded queue; it reconnects by itself.

    Raises:
        UnavailableError: on entering, the broker cannot be reached, or refuses the login.
    """

    def __init__(self, broker: _Broker, topics: list[str]) -> None:
        self.broker = broker
        self.trouble: str | None = None
        self._topics = topics
        self._messages: queue.Queue[paho.MQTTMessage] = queue.Queue(_QUEUE_LENGTH)
        self._logins: queue.SimpleQueue[ReasonCode] = queue.SimpleQueue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"edge-asd-watch-{uuid.uuid4().hex[:8]}")
        self._client.connect_timeout = _LOGIN_TIMEOUT_S
        self._client.username_pw_set(broker.username, broker.password)
        self._client.reconnect_delay_set(1, 10)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message

    def __enter__(self) -> _Subscription:
        endpoint = self.broker.endpoint
        try:
            self._client.connect(self.broker.host, self.broker.port)
        except OSError as error:
            raise UnavailableError(
                f"MQTT broker {endpoint}: {error}; check host and port, and whether the broker runs"
            ) from error
        self._client.loop_start()
        try:
            reason = self._logins.get(timeout=_LOGIN_TIMEOUT_S)
        except queue.Empty:
            self._leave()
            raise UnavailableError(
                f"MQTT broker {endpoint}: no answer to the login within {_LOGIN_TIMEOUT_S:.0f} s; check that an MQTT "
                "broker without TLS listens there"
            ) from None
        if reason.is_failure:
            self._leave()
            raise UnavailableError(
                f"MQTT broker {endpoint}: login of user {self.broker.username!r} refused ({reason}); check user and "
                "password in --url, MQTT_URL or the configuration"
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def get(self, timeout_s: float) -> paho.MQTTMessage | None:
        """The next message, or None where none comes in time."""
        try:
            return self._messages.get(timeout=max(timeout_s, 0.0))
        except queue.Empty:
            return None

    def _leave(self) -> None:
        self._client.on_message = None  # nothing must wait for room in the queue any more
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: paho.Client, _data: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        self._logins.put(reason)
        if reason.is_failure:
            self.trouble = f"login refused ({reason})"
        else:
            self.trouble = None
            client.subscribe([(topic, 1) for topic in self._topics])

    def _on_disconnect(
        self, _client: object, _data: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        self.trouble = f"connection lost ({reason}), trying again"

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        self._messages.put(message)


def _print_json(subscription: _Subscription, is_over: Callable[[], bool]) -> None:
    board = Board()
    while not is_over():
        message = subscription.get(_FRAME_S)
        heard = board.hear(message.topic, bytes(message.payload)) if message else None
        if heard and message:
            line = {"topic": message.topic, **asdict(heard.address), "retained": message.retain}
            print(json.dumps({**line, "payload": heard.payload}, ensure_ascii=False), flush=True)


def _show_table(subscription: _Subscription, is_over: Callable[[], bool]) -> None:
    board = Board()
    with Live(console=Console(), auto_refresh=False) as live:
        while not is_over():
            frame_end_s = time.monotonic() + _FRAME_S
            while (left_s := frame_end_s - time.monotonic()) > 0:
                message = subscription.get(left_s)
                if message:
                    board.hear(message.topic, bytes(message.payload))
            live.update(Group(_headline(subscription, board), board.picture(time.time())), refresh=True)


def _headline(subscription: _Subscription, board: Board) -> Text:
    headline = Text(f"broker {subscription.broker.endpoint}  ", style="bold")
    if subscription.trouble:
        headline.append(subscription.trouble, style="bold red")
    for count, what in ((board.repeats, "repeats dropped"), (board.foreign, "messages not understood")):
        if count:
            headline.append(f"  {count} {what}", style="dim")
    return headline

"""Messages in, committed to the spool and from there on their way to the broker."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from edge_asd import __version__
from edge_asd.alarm.commands import CommandInbox, ReceivedCommand
from edge_asd.config import DeviceConfig
from edge_asd.counters import Counters
from edge_asd.homeassistant import ONLINE, STATUS_TOPIC, discovery_payload, discovery_topic
from edge_asd.messages import Topics
from edge_asd.mqtt.link import Handler, Received
from edge_asd.mqtt.publisher import Publisher, PublisherStatus
from edge_asd.outbox import Outbox, SpoolStatus
from edge_asd.types import OutgoingMessage


class Delivery:
    """The spool of a device and the publisher that empties it.

    Raises:
        ConfigError: the login cannot be read.
        TemporaryError: the spool cannot be used.
    """

    def __init__(self, config: DeviceConfig, *, counters: Counters) -> None:
        self._resources = ExitStack()
        settings = config.mqtt.broker_settings(site=config.site, device=config.device)
        self._outbox = Outbox(
            config.state_dir / "spool.sqlite",
            max_bytes=config.spool.max_bytes,
            max_age_s=config.spool.max_age_h * 3_600.0,
        )
        self._resources.callback(self._outbox.close)
        topics = Topics(site=config.site, device=config.device)
        self._commands = CommandInbox(ignored=partial(counters.add, "commands_ignored"), monotonic_s=time.monotonic)
        self._topics = topics
        subscriptions: dict[str, Handler] = {topics.command("+"): self._commands.receive}
        if config.mqtt.home_assistant:
            subscriptions[STATUS_TOPIC] = self._greet_home_assistant
        self._publisher = Publisher(settings, topics=topics, spool=self._outbox, subscriptions=subscriptions)
        self.announce(config)
        for end in (
            counters.watch("messages_dropped", lambda: self.spool.dropped),
            counters.watch("messages_unwritten", lambda: self.spool.unwritten),
            counters.watch("messages_published", lambda: self.broker.acknowledged),
            counters.watch("broker_connections", lambda: self.broker.connections),
        ):
            self._resources.callback(end)
        self._publisher.start()

    @property
    def spool(self) -> SpoolStatus:
        """How full the spool is, and what it lost."""
        return self._outbox.status()

    @property
    def broker(self) -> PublisherStatus:
        """Whether the broker is there, and what went to it."""
        return self._publisher.status()

    @property
    def records(self) -> dict[str, bytes]:
        """What this run or the one before has put to be known."""
        return self._outbox.records()

    def commands(self) -> Iterator[ReceivedCommand]:
        """Yield what operators asked for meanwhile."""
        return self._commands.take()

    def put(self, messages: Sequence[OutgoingMessage], *, records: Mapping[str, bytes | None] | None = None) -> None:
        """Commit messages with what the next run has to know; from then on both survive a power cut."""
        self._outbox.put_many(messages, records=records)
        self._publisher.notify()

    def announce(self, config: DeviceConfig) -> None:
        """Tell Home Assistant of the device and its machines, where that is wanted; anew on each connection."""
        if config.mqtt.home_assistant:
            self._announcement = discovery_payload(
                self._topics, [machine.name for machine in config.machines], version=__version__
            )
            self._publisher.keep(discovery_topic(self._topics), self._announcement)

    def _greet_home_assistant(self, received: Received) -> None:
        if received.payload == ONLINE:
            self._publisher.keep(discovery_topic(self._topics), self._announcement)

    def close(self, *, drain_s: float = 10.0) -> None:
        """Deliver what can be delivered within that time, and leave the broker; the rest waits in the spool."""
        self._publisher.stop(drain_s)
        self._resources.close()

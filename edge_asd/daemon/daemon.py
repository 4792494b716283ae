"""A device's configuration in, its scores and alarms on the broker out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from types import TracebackType

from edge_asd.bundle import open_bundle
from edge_asd.capture import ClipPlayer, SoundCard, Source
from edge_asd.config import ClipsSource, DeviceConfig, check_classes
from edge_asd.counters import Counters
from edge_asd.daemon.listener import Listener
from edge_asd.errors import EdgeAsdError
from edge_asd.health import boot_id, clock_state, software_versions
from edge_asd.inbox import Inbox
from edge_asd.messages import Messages, ModelIdentity, Moment, Topics
from edge_asd.mqtt import Publisher
from edge_asd.outbox import Outbox
from edge_asd.pipeline import open_pipeline
from edge_asd.types import Block

LOG = logging.getLogger(__name__)

_INBOX_S = 30.0  # of sound that may wait for the scoring thread, a machine
_HEALTH_EVERY_S = 60.0
_POLL_S = 0.5
_DRAIN_S = 10.0


class Daemon:
    """Listens to the machines of one device until it is stopped or its recordings end.

    Capture threads put blocks into the inbox; the caller's thread turns them into windows, scores and messages; the
    publisher's thread delivers what the spool holds.

    Raises:
        EdgeAsdError: on entering, what the device needs is missing or does not fit; while running, a source failed.
    """

    def __init__(self, config: DeviceConfig) -> None:
        self._config = config
        self._stop = threading.Event()
        self._resources = ExitStack()
        self._counters = Counters(tuple(machine.name for machine in config.machines))
        self._failure: EdgeAsdError | None = None
        self._captures: list[threading.Thread] = []
        self._started_s = time.monotonic()
        self._health_due_s = 0.0

    def __enter__(self) -> Daemon:
        try:
            self._open()
        except BaseException:
            self._resources.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._resources.close()

    def request_stop(self) -> None:
        """End `run` soon; a signal handler may call it."""
        self._stop.set()

    def run(self) -> None:
        """Listen until stopped, or until all recordings have ended and their windows were scored.

        Raises:
            EdgeAsdError: a source failed; what was scored before is in the spool.
        """
        for capture in self._captures:
            capture.start()
        while not self._stop.is_set() and not self._inbox.done:
            taken = self._inbox.take(_POLL_S)
            if taken is not None:
                machine, blocks = taken
                self._hear(self._listeners[machine], blocks)
            self._tell_health()
        if self._failure is not None:
            raise self._failure

    def _open(self) -> None:
        config = self._config
        bundle = open_bundle(config.bundle)
        check_classes(config, bundle.manifest.classes, bundle=str(config.bundle))
        pipeline = self._resources.enter_context(
            open_pipeline(
                bundle, prefer=config.engine.prefer, precision=config.engine.precision, threads=config.engine.threads
            )
        )
        self._engine = f"{pipeline.engine_name}-{config.engine.precision}"
        identity = ModelIdentity(name=bundle.manifest.name, version=bundle.manifest.version, sha256=bundle.sha256)
        self._messages = Messages(model=identity, boot_id=boot_id())
        self._listeners = [
            Listener(
                machine,
                manifest=bundle.manifest,
                pipeline=pipeline,
                messages=self._messages,
                engine=self._engine,
                counters=self._counters,
            )
            for machine in config.machines
        ]
        self._inbox = Inbox(
            machines=len(self._listeners), max_samples=round(_INBOX_S * bundle.manifest.feature_spec.sample_rate_hz)
        )
        self._outbox = Outbox(config.state_dir / "spool.sqlite", max_bytes=config.spool.max_bytes)
        self._resources.callback(self._outbox.close)
        self._publisher = Publisher(
            config.mqtt.broker_settings(site=config.site, device=config.device),
            topics=Topics(site=config.site, device=config.device),
            spool=self._outbox,
        )
        self._publisher.start()
        self._resources.callback(self._publisher.stop, _DRAIN_S)
        self._resources.callback(self._tell_health, now=True)
        for machines, source in _open_sources(config):
            self._resources.callback(source.close)
            self._captures.append(
                threading.Thread(
                    target=self._capture, args=(machines, source), name=f"capture-{source.name}", daemon=True
                )
            )
        LOG.info("%s: %d machines, model %s %s, engine %s", config.device, len(self._listeners), identity.name,
                 identity.version, self._engine)  # fmt: skip

    def _capture(self, machines: Sequence[int], source: Source) -> None:
        """Body of a capture thread: one source's blocks into the inbox of its machines."""
        try:
            for blocks in source:
                for machine, block in zip(machines, blocks, strict=True):
                    if not self._inbox.put(machine, block, live=source.live):
                        return
        except EdgeAsdError as error:
            self._failure = error
            self._stop.set()
        except Exception as error:
            LOG.exception("capture from %s failed", source.name)
            self._failure = EdgeAsdError(
                f"capture from {source.name} failed: {error!r}; this is a bug, please report it"
            )
            self._stop.set()
        finally:
            for machine in machines:
                self._inbox.end(machine)

    def _hear(self, listener: Listener, blocks: Sequence[Block]) -> None:
        for messages in listener.hear(blocks):
            self._outbox.put_many(messages)
            self._publisher.notify()

    def _tell_health(self, *, now: bool = False) -> None:
        monotonic_s = time.monotonic()
        if not now and monotonic_s < self._health_due_s:
            return
        self._health_due_s = monotonic_s + _HEALTH_EVERY_S
        clock = clock_state()
        spool = self._outbox.status()
        message = self._messages.health(
            Moment(utc_s=time.time(), monotonic_s=monotonic_s, clock_synced=clock.synced),
            versions=software_versions(),
            engine=self._engine,
            uptime_s=monotonic_s - self._started_s,
            clock_max_error_ms=clock.max_error_ms,
            counters=self._counters.totals(),
            spool=asdict(spool),
        )
        self._outbox.put_many([message])
        self._publisher.notify()


def _open_sources(config: DeviceConfig) -> list[tuple[list[int], Source]]:
    """Each source with the machines that it feeds: one for all channels of a sound card, one for each set of clips."""
    players: list[tuple[list[int], Source]] = []
    cards: dict[str | None, dict[int, int]] = {}  # device: {machine: channel}
    for index, machine in enumerate(config.machines):
        source = machine.source
        if isinstance(source, ClipsSource):
            player = ClipPlayer(source.clips, speed=source.speed, repeat=source.repeat, channel=source.channel)
            players.append(([index], player))
        else:
            cards.setdefault(source.device, {})[index] = source.channel
    return [*players, *((list(fed), SoundCard(card, list(fed.values()))) for card, fed in cards.items())]

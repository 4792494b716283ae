"""A configuration in, the messages that its machines' sound gives rise to out: all between source and message."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial

from edge_asd.bundle import open_bundle
from edge_asd.capture.source import Source
from edge_asd.config import DeviceConfig, check_classes
from edge_asd.counters import Counters
from edge_asd.daemon.listener import Listener
from edge_asd.daemon.sources import open_sources
from edge_asd.errors import EdgeAsdError, UnavailableError
from edge_asd.health import boot_id
from edge_asd.inbox import Inbox
from edge_asd.messages import Messages, ModelIdentity
from edge_asd.pipeline import open_pipeline
from edge_asd.types import Block, NoSound, OutgoingMessage

LOG = logging.getLogger(__name__)

_INBOX_S = 30.0  # of sound that may wait for the scoring thread, a machine


class Hearing:
    """The model, and a listener and a source for each machine.

    Capture threads put blocks into the inbox; who calls `step` turns them into windows, scores and messages.

    Raises:
        EdgeAsdError: what the configuration names is missing or does not fit.
    """

    def __init__(self, config: DeviceConfig, *, counters: Counters) -> None:
        self.failure: EdgeAsdError | None = None
        self._resources = ExitStack()
        self._captures: list[threading.Thread] = []
        self._silent_at_start: dict[int, str | None] = {}  # machine: why, None where it was heard
        try:
            self._open(config, counters)
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Begin to listen."""
        for capture in self._captures:
            capture.start()

    @property
    def done(self) -> bool:
        """Whether a source failed, or all recordings have ended and their windows were scored."""
        return self.failure is not None or self._inbox.done

    def step(self, timeout_s: float) -> Iterator[list[OutgoingMessage]]:
        """Yield what is to be said after each window that one machine's sound completes; commit it before the next.

        Waits so long for sound where there is none.
        """
        taken = self._inbox.take(timeout_s)
        if taken is not None:
            machine, heard = taken
            yield from self._listeners[machine].hear(heard)
            self._note_first(machine, heard[0])

    def _note_first(self, machine: int, heard: Block | NoSound) -> None:
        """Fail where no machine at all can be heard at the start; one that can is not kept from it by the others."""
        self._silent_at_start.setdefault(machine, heard.reason if isinstance(heard, NoSound) else None)
        reasons = set(self._silent_at_start.values())
        if len(self._silent_at_start) == len(self._listeners) and None not in reasons:
            self.failure = UnavailableError("; ".join(sorted(filter(None, reasons))))

    def close(self) -> None:
        """Stop listening and release sources and engine; may be called twice."""
        self._resources.close()

    def _open(self, config: DeviceConfig, counters: Counters) -> None:
        bundle = open_bundle(config.bundle)
        manifest = bundle.manifest
        check_classes(config, manifest.classes, bundle=str(config.bundle))
        pipeline = self._resources.enter_context(
            open_pipeline(
                bundle, prefer=config.engine.prefer, precision=config.engine.precision, threads=config.engine.threads
            )
        )
        self.engine = f"{pipeline.engine_name}-{config.engine.precision}"
        identity = ModelIdentity(name=manifest.name, version=manifest.version, sha256=bundle.sha256)
        self.messages = Messages(model=identity, boot_id=boot_id())
        self._listeners = [
            Listener(
                machine,
                manifest=manifest,
                pipeline=pipeline,
                messages=self.messages,
                engine=self.engine,
                counters=counters,
            )
            for machine in config.machines
        ]
        self._inbox = Inbox(
            machines=len(self._listeners), max_samples=round(_INBOX_S * manifest.feature_spec.sample_rate_hz)
        )
        for machines, source in open_sources(config):
            self._resources.callback(source.close)
            if source.live:
                self._resources.callback(counters.watch("capture_overruns", partial(getattr, source, "overruns")))
                self._resources.callback(counters.watch("capture_restarts", partial(getattr, source, "restarts")))
            self._captures.append(
                threading.Thread(
                    target=self._capture, args=(machines, source), name=f"capture-{source.name}", daemon=True
                )
            )
        LOG.info("%s: %d machines, model %s %s, engine %s", config.device, len(self._listeners), identity.name,
                 identity.version, self.engine)  # fmt: skip

    def _capture(self, machines: Sequence[int], source: Source) -> None:
        """Body of a capture thread: one source's blocks into the inbox of its machines."""
        try:
            for heard in source:
                each: Sequence[Block | NoSound] = [heard] * len(machines) if isinstance(heard, NoSound) else heard
                for machine, part in zip(machines, each, strict=True):
                    if not self._inbox.put(machine, part, live=source.live):
                        return
        except EdgeAsdError as error:
            self.failure = error
        except Exception as error:
            LOG.exception("capture from %s failed", source.name)
            self.failure = EdgeAsdError(
                f"capture from {source.name} failed: {error!r}; this is a bug, please report it"
            )
        finally:
            for machine in machines:
                self._inbox.end(machine)

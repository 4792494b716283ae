"""A configuration in, the messages that its machines' sound gives rise to out: all between source and message."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from edge_asd.alarm.commands import ReceivedCommand
from edge_asd.artifacts import CheckStop
from edge_asd.capture.source import Source
from edge_asd.config import DeviceConfig
from edge_asd.counters import Counters
from edge_asd.daemon.enrolment import open_enrolment
from edge_asd.daemon.listener import Listener
from edge_asd.daemon.machine_evidence import open_evidence
from edge_asd.daemon.sources import open_sources
from edge_asd.daemon.succession import Succession
from edge_asd.daemon.together import hear_together
from edge_asd.errors import EdgeAsdError, UnavailableError
from edge_asd.health import boot_id
from edge_asd.heap import give_back
from edge_asd.inbox import Inbox
from edge_asd.messages import Messages, ModelIdentity, Moment
from edge_asd.types import Block, NoSound, OutgoingMessage

LOG = logging.getLogger(__name__)

_INBOX_S = 30.0  # of sound that may wait for the scoring thread, a machine


class Hearing:
    """The model, and a listener and a source for each machine.

    Capture threads put blocks into the inbox; who calls `step` turns them into windows, scores and messages.

    check_stop: is called while an engine is built; may raise Stopped.

    Raises:
        EdgeAsdError: what the configuration names is missing or does not fit.
    """

    def __init__(self, config: DeviceConfig, *, counters: Counters, check_stop: CheckStop) -> None:
        self.failure: EdgeAsdError | None = None
        self._counters = counters
        self._resources = ExitStack()
        self._captures: list[threading.Thread] = []
        self._live: list[Source] = []
        self._delivered: Counter[str] = Counter()  # by source
        self._silent_at_start: dict[int, str | None] = {}  # machine: why, None where it was heard
        try:
            self._open(config, counters, check_stop)
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Begin to listen; another that listened must be closed by now, which one that is being opened need not."""
        if self._evidence is not None:
            self._evidence.start()
        for capture in self._captures:
            capture.start()

    def adjust(self, config: DeviceConfig) -> None:
        """Go on with other thresholds and alarm settings of the same machines; their windows stay."""
        for listener, machine in zip(self._listeners, config.machines, strict=True):
            listener.adjust(machine)
        self._succession.adjust(config)

    @property
    def done(self) -> bool:
        """Whether a source failed, or all recordings have ended and their windows were scored."""
        return self.failure is not None or self._inbox.done

    def step(self, timeout_s: float) -> Iterator[list[OutgoingMessage]]:
        """Yield what is to be said after each window that the machines' sound completes; commit it before the next.

        Takes as many machines as are best scored at once. Waits so long for sound where there is none.
        """
        taken = self._inbox.take(timeout_s, max_machines=self._pipeline.max_batch)
        yield from hear_together(self._pipeline, [(self._listeners[machine], heard) for machine, heard in taken])
        for machine, heard in taken:
            self._note_first(machine, heard[0])

    def _note_first(self, machine: int, heard: Block | NoSound) -> None:
        """Fail where no machine at all can be heard at the start; one that can is not kept from it by the others."""
        self._silent_at_start.setdefault(machine, heard.reason if isinstance(heard, NoSound) else None)
        reasons = set(self._silent_at_start.values())
        if len(self._silent_at_start) == len(self._listeners) and None not in reasons:
            self.failure = UnavailableError("; ".join(sorted(filter(None, reasons))))

    @property
    def records(self) -> dict[str, bytes | None]:
        """What the next run has to know of all machines; to be committed with each step's messages."""
        return {name: record for listener in self._listeners for name, record in listener.records.items()}

    def restore(self, records: Mapping[str, bytes]) -> None:
        """Go on with the alarms of the run before, or of what was heard by before; ahead of `start`."""
        for listener in self._listeners:
            listener.restore(records)

    def obey(self, received: ReceivedCommand, at: Moment) -> list[OutgoingMessage]:
        """Do what an operator asks of a machine, or refuse it; nothing is said of a machine that is not heard."""
        for listener in self._listeners:
            if listener.name == received.machine:
                return listener.obey(received, at)
        LOG.warning("ignored a command to %r: no such machine is listened to", received.machine)
        self._counters.add("commands_ignored")
        return []

    @property
    def is_outdated(self) -> bool:
        """Whether another model is to serve, or to be heard beside this one: hear afresh, then."""
        return self._succession.is_over

    @property
    def engine(self) -> str:
        """What computes the scores now, as openvino-int8."""
        return self._pipeline.engine

    @property
    def engine_trouble(self) -> str | None:
        """Why engines that the configuration names before it do not; None where it is the first."""
        return self._pipeline.engine_trouble

    def note(self) -> None:
        """Keep what was found of a model in shadow or on trial: another hearing is to go on from there."""
        self._succession.note()

    def end(self) -> None:
        """Note that the process ends in order, ahead of `close`: any other end is held against an unproven model."""
        self._succession.end()

    def progress(self) -> list[tuple[str, tuple[int, int]]]:
        """Of each live source its name, how often it delivered and how often it was tried again."""
        return [(source.name, (self._delivered[source.name], source.restarts)) for source in self._live]

    def close(self) -> None:
        """Stop listening and release sources and engine; may be called twice."""
        self._resources.close()

    def _open(self, config: DeviceConfig, counters: Counters, check_stop: CheckStop) -> None:
        self._succession = Succession(config, counters=counters, check_stop=check_stop)
        self._resources.callback(self._succession.close)
        serving = self._succession.serving
        manifest, pipeline = serving.manifest, serving.pipeline
        self._pipeline = pipeline
        self._resources.callback(counters.watch("engine_failures", partial(getattr, pipeline, "engine_failures")))
        self.model = ModelIdentity(name=manifest.name, version=manifest.version, sha256=serving.sha256)
        self._evidence = open_evidence(config, spec=manifest.feature_spec, model=self.model)
        if self._evidence is not None:
            self._resources.callback(self._evidence.close)
            self._resources.callback(counters.watch("evidence_written", partial(getattr, self._evidence, "written")))
            self._resources.callback(counters.watch("evidence_dropped", partial(getattr, self._evidence, "dropped")))
        self.messages = Messages(model=self.model, boot_id=boot_id(), keeps_evidence=self._evidence is not None)
        self._listeners = [
            Listener(
                machine,
                manifest=manifest,
                pipeline=pipeline,
                messages=self.messages,
                counters=counters,
                succession=self._succession,
                evidence=self._evidence,
                config=config,
                enrolment=open_enrolment(machine, config, serving),
            )
            for machine in config.machines
        ]
        for listener in self._listeners:
            self._resources.callback(listener.close)
        self._inbox = Inbox(
            machines=len(self._listeners), max_samples=round(_INBOX_S * manifest.feature_spec.sample_rate_hz)
        )
        for machines, source in open_sources(config):
            self._resources.callback(source.close)
            if source.live:
                self._live.append(source)
                self._resources.callback(counters.watch("capture_overruns", partial(getattr, source, "overruns")))
                self._resources.callback(counters.watch("capture_restarts", partial(getattr, source, "restarts")))
            self._captures.append(
                threading.Thread(
                    target=self._capture, args=(machines, source), name=f"capture-{source.name}", daemon=True
                )
            )
        give_back()  # what opening models took on the way
        LOG.info("%s: %d machines, model %s %s, engine %s", config.device, len(self._listeners), self.model.name,
                 self.model.version, self.engine)  # fmt: skip

    def _capture(self, machines: Sequence[int], source: Source) -> None:
        """Body of a capture thread: one source's blocks into the inbox of its machines."""
        try:
            for heard in source:
                self._delivered[source.name] += 1
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

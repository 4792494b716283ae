"""A device's configuration in, its scores and alarms on the broker out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict
from types import TracebackType

from edge_asd import __version__
from edge_asd.config import DeviceConfig
from edge_asd.counters import Counters
from edge_asd.daemon.delivery import Delivery
from edge_asd.daemon.endpoint import Endpoint
from edge_asd.daemon.hearing import Hearing
from edge_asd.daemon.progress import Progress
from edge_asd.daemon.reload import Prepared, Reload
from edge_asd.daemon.report import LatestWords, Report, troubles_of
from edge_asd.daemon.stopped import Stopped
from edge_asd.errors import EdgeAsdError
from edge_asd.health import clock_state, software_versions
from edge_asd.log import configure_log, repeats_held
from edge_asd.messages import Moment
from edge_asd.systemd import ServiceManager
from edge_asd.types import OutgoingMessage

LOG = logging.getLogger(__name__)

_HEALTH_EVERY_S = 60.0
_PULSE_S = 1.0
_POLL_S = 0.5
_RELOAD_DRAIN_S = 2.0
_GIVE_UP_RELOAD_S = 20.0


class Daemon:
    """Listens to the machines of one device until it is stopped or its recordings end.

    The caller's thread scores; as long as it comes round and every live source does its work, the service manager's
    watchdog is fed.

    Args:
        config: of the device.
        service: who started it.

    Raises:
        EdgeAsdError: on entering, what the device needs is missing or does not fit; while running, a source failed.
        Stopped: on entering, `request_stop` was called while an engine was built.
    """

    def __init__(self, config: DeviceConfig, *, service: ServiceManager) -> None:
        self._config = config
        self._service = service
        self._stop = threading.Event()
        self._reload_asked = threading.Event()
        self._reload: Reload | None = None
        self._counters = Counters(tuple(machine.name for machine in config.machines))
        self._counters.watch("log_repeats_held", repeats_held)
        self._latest = LatestWords()
        self._progress = Progress()
        self._stalled: list[str] = []
        self._started_s = time.monotonic()
        self._health_due_s = 0.0
        self._told_engine = ""
        self._pulse_due_s = 0.0
        self._pulse_s = min(_PULSE_S, (service.watchdog_s or 60.0) / 4)

    def __enter__(self) -> Daemon:
        with ExitStack() as opened:
            # In a thread of its own: a signal's handler would wait until TensorRT gives this one back to Python.
            with ThreadPoolExecutor(1, "opening") as thread:
                opening = thread.submit(Hearing, self._config, counters=self._counters, check_stop=self._check_stop)
                self._hearing = opened.enter_context(closing(opening.result()))
            self._delivery = opened.enter_context(closing(Delivery(self._config, counters=self._counters)))
            self._hearing.restore(self._delivery.records)
            self._endpoint = self._open_endpoint()
            opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._service.stopping()
        self._stop.set()
        try:
            self._endpoint.close()
            if kind is None or issubclass(kind, EdgeAsdError):
                self._hearing.end()
            self._hearing.close()  # no more sound while the spool empties
            self._tell_health(now=True)
        finally:
            self._delivery.close()
            if self._reload is not None:
                self._reload.give_up(_GIVE_UP_RELOAD_S)

    def request_stop(self) -> None:
        """End `run`, or the opening, soon; a signal handler may call it."""
        self._stop.set()

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def request_reload(self) -> None:
        """Take over the configuration file as it is by then, if it is good; a signal handler may call it."""
        self._reload_asked.set()

    def run(self) -> None:
        """Listen until stopped, or until all recordings have ended and their windows were scored.

        Raises:
            EdgeAsdError: a source failed; what was scored before is in the spool.
        """
        self._hearing.start()
        self._service.ready()
        while not self._stop.is_set() and not self._hearing.done:
            for messages in self._hearing.step(_POLL_S):
                self._say(messages)
            for received in self._delivery.commands():
                now = Moment(utc_s=time.time(), monotonic_s=time.monotonic(), clock_synced=clock_state().synced)
                self._say(self._hearing.obey(received, now))
            self._follow_reload()
            self._tell_health()
            self._pulse()
        if self._hearing.failure is not None:
            raise self._hearing.failure

    def report(self) -> Report:
        """How the daemon stands now; any thread may ask."""
        monotonic_s = time.monotonic()
        broker, spool = self._delivery.broker, self._delivery.spool
        machines = self._latest.of([machine.name for machine in self._config.machines])
        return Report(
            site=self._config.site,
            device=self._config.device,
            version=__version__,
            model=self._hearing.model,
            engine=self._hearing.engine,
            monotonic_s=monotonic_s,
            uptime_s=monotonic_s - self._started_s,
            clock=clock_state(),
            broker=broker,
            spool=spool,
            machines=machines,
            counts=tuple(self._counters.counts()),
            troubles=troubles_of(
                machines=machines,
                broker=broker,
                spool=spool,
                stalled=self._stalled,
                engine_trouble=self._hearing.engine_trouble,
            ),
        )

    def _say(self, messages: Sequence[OutgoingMessage]) -> None:
        self._delivery.put(messages, records=self._hearing.records)
        self._latest.note(messages, time.monotonic())

    def _follow_reload(self) -> None:
        """Begin what was asked for or other models call for, and end it when it is ready; hearing goes on meanwhile."""
        if self._reload is None:
            asked, outdated = self._reload_asked.is_set(), self._hearing.is_outdated
            if not asked and not outdated:
                return
            if asked:
                self._reload_asked.clear()
                self._service.reloading()
            self._hearing.note()
            self._reload = Reload(
                self._config,
                reread=asked,
                afresh=outdated,
                model=self._hearing.model,
                counters=self._counters,
                check_stop=self._check_stop,
            )
        elif self._reload.is_done:
            reload, self._reload = self._reload, None
            try:
                self._use(reload.result())
            except EdgeAsdError as error:
                self._counters.add("reloads_refused")
                LOG.error("reload refused, all goes on as before: %s", error)  # noqa: TRY400 - not a bug
            self._service.ready()

    def _use(self, new: Prepared) -> None:
        """Go over to another configuration, opening again what differs and nothing else.

        Raises:
            EdgeAsdError: the new spool cannot be used; everything is as before.
        """
        if new.needs_new_delivery:
            self._replace_delivery(new)
        old, self._config = self._config, new.config
        if new.hearing is not None:
            self._hearing.close()
            self._hearing, self._progress = new.hearing, Progress()
            self._hearing.restore(self._delivery.records)
            self._hearing.start()
        else:
            self._hearing.adjust(new.config)
        self._delivery.announce(new.config)
        if old.log != new.config.log:
            configure_log(level=new.config.log.level, log_format=new.config.log.format)
        if old.metrics != new.config.metrics:
            self._endpoint.close()
            self._endpoint = self._open_endpoint()
        self._counters.add("reloads")
        LOG.info("reloaded %s: %s", new.config.path, ", ".join(sorted(new.changed)) or "nothing differs")

    def _replace_delivery(self, new: Prepared) -> None:
        self._delivery.close(drain_s=_RELOAD_DRAIN_S)
        try:
            self._delivery = Delivery(new.config, counters=self._counters)
        except EdgeAsdError:
            if new.hearing is not None:
                new.hearing.close()
            self._delivery = Delivery(self._config, counters=self._counters)
            raise

    def _open_endpoint(self) -> Endpoint:
        return Endpoint(self._config.metrics.port, self.report)

    def _pulse(self) -> None:
        """Tell the service manager that hearing goes on, or how it does not."""
        now_s = time.monotonic()
        if now_s < self._pulse_due_s:
            return
        self._pulse_due_s = now_s + self._pulse_s
        for source, done in self._hearing.progress():
            self._progress.note(source, done, now_s)
        self._stalled = self._progress.stalled(now_s)
        if self._stalled:
            LOG.error("%s; the watchdog is not fed until it goes on", "; ".join(self._stalled))
        else:
            self._service.alive()
        self._service.status(self.report().summary)

    def _tell_health(self, *, now: bool = False) -> None:
        monotonic_s = time.monotonic()
        engine = self._hearing.engine
        if not now and monotonic_s < self._health_due_s and engine == self._told_engine:
            return
        self._told_engine = engine
        self._health_due_s = monotonic_s + _HEALTH_EVERY_S
        clock = clock_state()
        message = self._hearing.messages.health(
            Moment(utc_s=time.time(), monotonic_s=monotonic_s, clock_synced=clock.synced),
            versions=software_versions(),
            engine=engine,
            engine_trouble=self._hearing.engine_trouble,
            uptime_s=monotonic_s - self._started_s,
            clock_max_error_ms=clock.max_error_ms,
            counters=self._counters.totals(),
            machine_counters=self._counters.of_machines(),
            spool=asdict(self._delivery.spool),
        )
        self._delivery.put([message])

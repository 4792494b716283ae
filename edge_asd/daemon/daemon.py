"""A device's configuration in, its scores and alarms on the broker out."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict
from types import TracebackType

from edge_asd import __version__
from edge_asd.config import DeviceConfig
from edge_asd.counters import Counters
from edge_asd.daemon.delivery import Delivery
from edge_asd.daemon.endpoint import Endpoint
from edge_asd.daemon.hearing import Hearing
from edge_asd.daemon.progress import Progress
from edge_asd.daemon.report import LatestWords, Report, troubles_of
from edge_asd.health import clock_state, software_versions
from edge_asd.messages import Moment
from edge_asd.systemd import ServiceManager

LOG = logging.getLogger(__name__)

_HEALTH_EVERY_S = 60.0
_PULSE_S = 1.0
_POLL_S = 0.5


class Daemon:
    """Listens to the machines of one device until it is stopped or its recordings end.

    The caller's thread scores; as long as it comes round and every live source does its work, the service manager's
    watchdog is fed.

    Args:
        config: of the device.
        service: who started it.

    Raises:
        EdgeAsdError: on entering, what the device needs is missing or does not fit; while running, a source failed.
    """

    def __init__(self, config: DeviceConfig, *, service: ServiceManager) -> None:
        self._config = config
        self._service = service
        self._stop = threading.Event()
        self._resources = ExitStack()
        self._counters = Counters(tuple(machine.name for machine in config.machines))
        self._latest = LatestWords()
        self._progress = Progress()
        self._stalled: list[str] = []
        self._started_s = time.monotonic()
        self._health_due_s = 0.0
        self._pulse_due_s = 0.0
        self._pulse_s = min(_PULSE_S, (service.watchdog_s or 60.0) / 4)

    def __enter__(self) -> Daemon:
        try:
            self._hearing = Hearing(self._config, counters=self._counters)
            self._resources.callback(self._hearing.close)
            self._delivery = Delivery(self._config, counters=self._counters)
            self._resources.callback(self._delivery.close)
            self._resources.callback(self._tell_health, now=True)
            self._resources.callback(self._hearing.close)  # ahead of the others: no more sound while the spool empties
            if self._config.metrics.port is not None:
                endpoint = Endpoint(self._config.metrics.port, self.report)
                self._resources.callback(endpoint.close)
        except BaseException:
            self._resources.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._service.stopping()
        self._resources.close()

    def request_stop(self) -> None:
        """End `run` soon; a signal handler may call it."""
        self._stop.set()

    def run(self) -> None:
        """Listen until stopped, or until all recordings have ended and their windows were scored.

        Raises:
            EdgeAsdError: a source failed; what was scored before is in the spool.
        """
        self._hearing.start()
        self._service.ready()
        while not self._stop.is_set() and not self._hearing.done:
            for messages in self._hearing.step(_POLL_S):
                self._delivery.put(messages)
                self._latest.note(messages)
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
            troubles=troubles_of(machines=machines, broker=broker, spool=spool, stalled=self._stalled),
        )

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
        if not now and monotonic_s < self._health_due_s:
            return
        self._health_due_s = monotonic_s + _HEALTH_EVERY_S
        clock = clock_state()
        message = self._hearing.messages.health(
            Moment(utc_s=time.time(), monotonic_s=monotonic_s, clock_synced=clock.synced),
            versions=software_versions(),
            engine=self._hearing.engine,
            uptime_s=monotonic_s - self._started_s,
            clock_max_error_ms=clock.max_error_ms,
            counters=self._counters.totals(),
            spool=asdict(self._delivery.spool),
        )
        self._delivery.put([message])

"""A device's configuration in, its scores and alarms on the broker out."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import asdict
from types import TracebackType

from edge_asd.config import DeviceConfig
from edge_asd.counters import Counters
from edge_asd.daemon.delivery import Delivery
from edge_asd.daemon.hearing import Hearing
from edge_asd.health import clock_state, software_versions
from edge_asd.messages import Moment

_HEALTH_EVERY_S = 60.0
_POLL_S = 0.5


class Daemon:
    """Listens to the machines of one device until it is stopped or its recordings end.

    Raises:
        EdgeAsdError: on entering, what the device needs is missing or does not fit; while running, a source failed.
    """

    def __init__(self, config: DeviceConfig) -> None:
        self._config = config
        self._stop = threading.Event()
        self._resources = ExitStack()
        self._counters = Counters(tuple(machine.name for machine in config.machines))
        self._started_s = time.monotonic()
        self._health_due_s = 0.0

    def __enter__(self) -> Daemon:
        try:
            self._hearing = Hearing(self._config, counters=self._counters)
            self._resources.callback(self._hearing.close)
            self._delivery = Delivery(self._config, counters=self._counters)
            self._resources.callback(self._delivery.close)
            self._resources.callback(self._tell_health, now=True)
            self._resources.callback(self._hearing.close)  # first of all: no more sound while the spool is emptied
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
        self._hearing.start()
        while not self._stop.is_set() and not self._hearing.done:
            for messages in self._hearing.step(_POLL_S):
                self._delivery.put(messages)
            self._tell_health()
        if self._hearing.failure is not None:
            raise self._hearing.failure

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

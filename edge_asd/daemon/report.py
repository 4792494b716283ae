"""What a daemon knows of itself, as one picture: for `edge-asd status`, Prometheus and the service manager."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edge_asd.counters import Count
from edge_asd.health import Clock
from edge_asd.messages import ModelIdentity
from edge_asd.mqtt.publisher import PublisherStatus
from edge_asd.outbox import SpoolStatus
from edge_asd.types import OutgoingMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineReport:
    """What was last said of one machine; None where nothing was yet.

    alarm_id: of the alarm that goes on. scored_monotonic_s: when its latest score was there.
    """

    name: str
    state: str | None = None
    reason: str | None = None
    alarm_id: str | None = None
    score: float | None = None
    threshold: float | None = None
    latency_ms: float | None = None
    scored_monotonic_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How the daemon stands at `monotonic_s`; troubles are sentences for whoever can do something about them."""

    site: str
    device: str
    version: str
    model: ModelIdentity
    engine: str
    monotonic_s: float
    uptime_s: float
    clock: Clock
    broker: PublisherStatus
    spool: SpoolStatus
    machines: tuple[MachineReport, ...]
    counts: tuple[Count, ...]
    troubles: tuple[str, ...]

    @property
    def summary(self) -> str:
        """One line."""
        alarms = sum(machine.alarm_id is not None for machine in self.machines)
        said = [f"{len(self.machines)} machines", f"{alarms} in alarm", *self.troubles]
        return "; ".join(said)


class LatestWords:
    """Keeps what was last said of each machine; any thread may read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._machines: dict[str, MachineReport] = {}

    def note(self, messages: Iterable[OutgoingMessage], now_s: float) -> None:
        """Takes messages in the order in which they are said, and the monotonic time at which they are."""
        with self._lock:
            for message in messages:
                if message.machine is not None:
                    before = self._machines.get(message.machine, MachineReport(name=message.machine))
                    self._machines[message.machine] = _with(before, message, now_s)

    def of(self, machines: Sequence[str]) -> tuple[MachineReport, ...]:
        """What was last said of these machines."""
        with self._lock:
            return tuple(self._machines.get(name, MachineReport(name=name)) for name in machines)


def _with(before: MachineReport, message: OutgoingMessage, now_s: float) -> MachineReport:
    said: Mapping[str, Any] = message.payload
    match message.leaf:
        case "score":
            return replace(
                before,
                score=said["score"],
                threshold=said["threshold"],
                latency_ms=said["latency_ms"],
                scored_monotonic_s=now_s,
            )
        case "state":
            return replace(before, state=said["state"], reason=said["reason"], alarm_id=said["alarm_id"])
        case "alarm":
            return replace(before, alarm_id=None if said["event"] == "end" else said["id"])
    return before


def troubles_of(
    *,
    machines: Sequence[MachineReport],
    broker: PublisherStatus,
    spool: SpoolStatus,
    stalled: Sequence[str],
    engine_trouble: str | None,
) -> tuple[str, ...]:
    """What is wrong with the device itself, worst first; an alarm of a machine is no trouble of the device."""
    troubles = list(stalled)
    troubles += [f"{machine.name}: {machine.reason}" for machine in machines if machine.state == "sensor_fault"]
    if not broker.connected:
        troubles.append(f"broker away ({broker.trouble or 'not connected yet'}), {spool.messages} messages wait")
    lost = spool.dropped + spool.unwritten
    if lost:
        troubles.append(f"{lost} messages lost since the start ({spool.unwritten} of them refused by the disk)")
    if engine_trouble is not None:
        troubles.append(f"not the engine that the configuration names first: {engine_trouble}")
    return tuple(troubles)

"""Events of every part of the daemon in, one count each since the start out: for health, Prometheus and `status`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

CounterName: TypeAlias = Literal[
    "windows_scored",
    "windows_dropped",
    "samples_heard",
    "samples_lost",
    "capture_overruns",
    "capture_restarts",
    "alarms_begun",
    "engine_failures",
    "models_taken_over",
    "models_refused",
    "commands_obeyed",
    "commands_refused",
    "commands_ignored",
    "sensor_faults",
    "evidence_written",
    "evidence_dropped",
    "messages_published",
    "messages_dropped",
    "messages_unwritten",
    "broker_connections",
    "log_repeats_held",
    "reloads",
    "reloads_refused",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterKind:
    """What a counter counts, in words for people, and whether each machine has its own."""

    what: str
    per_machine: bool = False


COUNTERS: dict[CounterName, CounterKind] = {
    "windows_scored": CounterKind(what="Windows that were scored.", per_machine=True),
    "windows_dropped": CounterKind(what="Windows skipped because scoring came late.", per_machine=True),
    "samples_heard": CounterKind(what="Samples at 16 kHz that arrived.", per_machine=True),
    "samples_lost": CounterKind(
        what="Samples at 16 kHz that are missing between those that arrived.", per_machine=True
    ),
    "capture_overruns": CounterKind(what="Times that the driver of a sound card lost sound."),
    "capture_restarts": CounterKind(what="Times that a sound card was opened again."),
    "alarms_begun": CounterKind(what="Alarms raised.", per_machine=True),
    "commands_obeyed": CounterKind(what="Commands of operators that were obeyed.", per_machine=True),
    "commands_refused": CounterKind(what="Commands of operators that were refused.", per_machine=True),
    "commands_ignored": CounterKind(what="Messages on command topics that were no commands of a machine, or too many."),
    "sensor_faults": CounterKind(
        what="Times that the ear was found at fault, silence of its source included.", per_machine=True
    ),
    "evidence_written": CounterKind(what="Takes of sound around alarms that were written, two an alarm."),
    "evidence_dropped": CounterKind(what="Takes of sound around alarms that were not written."),
    "engine_failures": CounterKind(what="Times that an engine failed while it ran, and another took over."),
    "models_taken_over": CounterKind(what="New models that passed their shadow period."),
    "models_refused": CounterKind(
        what="Models that failed in shadow, at their self-test after a start, or by crashes."
    ),
    "messages_published": CounterKind(what="Messages that the broker acknowledged."),
    "messages_dropped": CounterKind(what="Messages lost because the spool was full."),
    "messages_unwritten": CounterKind(what="Messages lost because the disk refused them."),
    "broker_connections": CounterKind(what="Connections to the broker, the first among them."),
    "log_repeats_held": CounterKind(what="Warnings and errors not logged because they repeat one."),
    "reloads": CounterKind(what="Configurations taken over while the daemon ran."),
    "reloads_refused": CounterKind(what="Configurations that were not taken over because of a fault."),
}
"""Every counter there is. A new one: its name above, its line here, and an `add` or a `watch` where it happens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """One counter as it is now; machine is None where it is the device's."""

    name: CounterName
    machine: str | None
    value: int


_Key: TypeAlias = tuple[CounterName, str | None]


class Counters:
    """What the daemon counts since it started; any thread may use it.

    `add` is for what is counted where it happens, `watch` for a part that keeps a count itself and knows nothing of
    this one. Whoever owns a part that can be closed and opened again calls what `watch` returned: its last value stays.

    Args:
        machines: names of all machines; their counters begin at 0.
    """

    def __init__(self, machines: tuple[str, ...] = ()) -> None:
        self._lock = threading.Lock()
        self._counts: dict[_Key, int] = {}
        self._watched: dict[_Key, list[Callable[[], int]]] = {}
        for name, kind in COUNTERS.items():
            for machine in machines if kind.per_machine else (None,):
                self._counts[name, machine] = 0

    def add(self, name: CounterName, count: int = 1, *, machine: str | None = None) -> None:
        """Adds to one counter.

        Raises:
            ValueError: a machine is missing, or given where the counter is the device's.
        """
        key = _key(name, machine)
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + count

    def watch(self, name: CounterName, read: Callable[[], int], *, machine: str | None = None) -> Callable[[], None]:
        """Adds a count that is kept elsewhere, asked for whenever counters are; returns what ends that.

        Raises:
            ValueError: a machine is missing, or given where the counter is the device's.
        """
        key = _key(name, machine)

        def end() -> None:
            last = read()
            with self._lock:
                self._watched[key].remove(read)
                self._counts[key] = self._counts.get(key, 0) + last

        with self._lock:
            self._counts.setdefault(key, 0)
            self._watched.setdefault(key, []).append(read)
        return end

    def counts(self) -> list[Count]:
        """All counters as they are now."""
        with self._lock:
            counts = dict(self._counts)
            watched = [(key, read) for key, reads in self._watched.items() for read in reads]
        for key, read in watched:  # outside the lock: a part may hold one of its own while it adds
            counts[key] += read()
        return [Count(name=name, machine=machine, value=value) for (name, machine), value in counts.items()]

    def of_machines(self) -> dict[str, dict[str, int]]:
        """The counters of each machine, by its name."""
        machines: dict[str, dict[str, int]] = {}
        for count in self.counts():
            if count.machine is not None:
                machines.setdefault(count.machine, {})[count.name] = count.value
        return machines

    def totals(self) -> dict[str, int]:
        """All counters by name, each the sum over its machines."""
        totals: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        for count in self.counts():
            totals[count.name] += count.value
        return totals


def _key(name: CounterName, machine: str | None) -> _Key:
    if COUNTERS[name].per_machine != (machine is not None):
        wanted = "the name of a machine" if COUNTERS[name].per_machine else "no machine"
        raise ValueError(f"counter {name} got machine {machine!r}; expected {wanted}")
    return name, machine

"""Messages of any number of devices in, a picture of all their machines out; repeats are dropped."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, TypeAlias

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from edge_asd.messages import Address, address_of, is_command

_REMEMBERED_SEQS = 1_024  # a machine; far more than a device has under way
_CURVE_SCORES = 40
_ALARMS_SHOWN = 10
_BARS = "▁▂▃▄▅▆▇█"
_STYLES = {
    "learning": "cyan",
    "normal": "green",
    "warning": "yellow",
    "alarm": "bold white on red",
    "sensor_fault": "bold magenta",
    "online": "green",
    "offline": "bold red",
    "stopped": "yellow",
}

DeviceKey: TypeAlias = tuple[str, str]
MachineKey: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A message that is of the contract and no repeat; payload is a JSON object, or the word of an availability."""

    address: Address
    payload: dict[str, Any] | str


@dataclass(slots=True, kw_only=True)
class _Machine:
    state: str = "?"
    muted: bool = False
    scores: deque[float] = field(default_factory=lambda: deque(maxlen=_CURVE_SCORES))
    threshold: float | None = None
    scored_utc_s: float | None = None
    historical: bool = False


@dataclass(slots=True, kw_only=True)
class _Alarm:
    machine: MachineKey
    began_utc_s: float
    duration_s: float
    peak_score: float
    threshold: float
    ended: bool
    acknowledged_by: str | None
    muted: bool

    @property
    def marks(self) -> str:
        """What people said of it."""
        seen = f"seen by {self.acknowledged_by}" if self.acknowledged_by else ""
        return ", ".join(filter(None, (seen, "muted" if self.muted else "")))


class Board:
    """What is known of all devices that were heard."""

    def __init__(self) -> None:
        self.repeats = 0
        self.foreign = 0
        self._seqs: defaultdict[tuple[str, str, str | None], deque[int]] = defaultdict(
            lambda: deque(maxlen=_REMEMBERED_SEQS)
        )
        self._availability: dict[DeviceKey, str] = {}
        self._lost: defaultdict[DeviceKey, int] = defaultdict(int)
        self._machines: dict[MachineKey, _Machine] = {}
        self._alarms: dict[tuple[MachineKey, str], _Alarm] = {}

    def hear(self, topic: str, payload: bytes) -> Heard | None:
        """Takes in one message; None where it is a command, and, counted, where a repeat or not of the contract."""
        address = address_of(topic)
        if address is None:
            self.foreign += not is_command(topic)
            return None
        try:
            if address.leaf == "availability":
                word = payload.decode()
                self._availability[address.site, address.device] = word
                return Heard(address=address, payload=word)
            body = json.loads(payload)
            if self._is_repeat(address, int(body["seq"])):
                self.repeats += 1
                return None
            self._take_in(address, body)
        except (KeyError, TypeError, ValueError):
            self.foreign += 1
            return None
        return Heard(address=address, payload=body)

    def picture(self, now_utc_s: float) -> RenderableType:
        """Tables of the machines and of the latest alarms."""
        if not self._machines and not self._availability:
            return Text("no device heard yet", style="dim")
        return Group(self._machine_table(now_utc_s), *([self._alarm_table(now_utc_s)] if self._alarms else []))

    def _is_repeat(self, address: Address, seq: int) -> bool:
        seqs = self._seqs[address.site, address.device, address.machine]
        if seq in seqs:
            return True
        seqs.append(seq)
        return False

    def _take_in(self, address: Address, body: dict[str, Any]) -> None:
        if address.machine is None:
            drops = [drop["count"] for drop in body["drops"]]
            self._lost[address.site, address.device] += sum(count or 0 for count in drops)
            return
        key = (address.site, address.device, address.machine)
        if address.leaf == "score":
            score, threshold, heard_utc_s = float(body["score"]), float(body["threshold"]), _utc_s(body["time_utc"])
            machine = self._machines.setdefault(key, _Machine())
            machine.scores.append(score)
            machine.threshold = threshold
            machine.scored_utc_s = heard_utc_s
            machine.historical = bool(body["historical"])
        elif address.leaf == "state":
            state = printable(str(body["state"]))
            machine = self._machines.setdefault(key, _Machine())
            machine.state, machine.muted = state, body.get("muted_until_utc") is not None
        else:
            alarm_id = (key, str(body["id"]))
            alarm = _Alarm(
                machine=key,
                began_utc_s=_utc_s(body["began_utc"]),
                duration_s=float(body["duration_s"]),
                peak_score=float(body["peak_score"]),
                threshold=float(body["threshold"]),
                ended=body["event"] == "end",
                acknowledged_by=None
                if body.get("acknowledged_by") is None
                else printable(str(body["acknowledged_by"])),
                muted=body.get("muted_until_utc") is not None,
            )
            self._alarms.pop(alarm_id, None)  # so that the latest news come last
            self._alarms[alarm_id] = alarm
            self._machines.setdefault(key, _Machine())
            while len(self._alarms) > _ALARMS_SHOWN:
                self._alarms.pop(next(iter(self._alarms)))

    def _machine_table(self, now_utc_s: float) -> Table:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for heading in ("device", "machine", "state"):
            table.add_column(heading, no_wrap=True)
        table.add_column("score", justify="right", no_wrap=True)
        table.add_column("threshold", justify="right", no_wrap=True)
        table.add_column("curve")  # the one to shrink in a narrow terminal
        table.add_column("heard", justify="right", no_wrap=True)
        shown: DeviceKey | None = None
        for key in sorted(self._machines):
            device = key[:2]
            name = Text() if device == shown else self._device_cell(device)
            shown = device
            table.add_row(name, *_machine_cells(key[2], self._machines[key], now_utc_s))
        for device in sorted(set(self._availability) - {key[:2] for key in self._machines}):
            table.add_row(self._device_cell(device))
        return table

    def _device_cell(self, device: DeviceKey) -> Text:
        word = printable(self._availability.get(device, "?"))
        cell = Text("/".join(device) + " ").append(word, style=_STYLES.get(word, ""))
        if self._lost[device]:
            cell.append(f" {self._lost[device]} lost", style="red")
        return cell

    def _alarm_table(self, now_utc_s: float) -> Table:
        table = Table("alarm of", "began (UTC)", box=box.SIMPLE_HEAD, title="latest alarms", title_justify="left")
        for heading in ("age", "lasted", "peak score", "threshold"):
            table.add_column(heading, justify="right")
        table.add_column("marks")
        for alarm in reversed(self._alarms.values()):
            began = datetime.fromtimestamp(alarm.began_utc_s, tz=timezone.utc).strftime("%H:%M:%S")
            table.add_row(
                Text("/".join(alarm.machine), style=_alarm_style(alarm)),
                began,
                _age(now_utc_s - alarm.began_utc_s),
                _age(alarm.duration_s) if alarm.ended else "goes on",
                f"{alarm.peak_score:.2f}",
                f"{alarm.threshold:.2f}",
                Text(alarm.marks),
            )
        return table


def _alarm_style(alarm: _Alarm) -> str:
    """An alarm that nobody has seen stands out."""
    if alarm.ended:
        return "dim"
    return "red" if alarm.marks else _STYLES["alarm"]


def _machine_cells(name: str, machine: _Machine, now_utc_s: float) -> list[RenderableType]:
    state = Text(machine.state, style=_STYLES.get(machine.state, ""))
    if machine.muted:
        state.append(" muted", style="not bold yellow on default")
    if machine.threshold is None or machine.scored_utc_s is None:
        return [Text(name), state]
    score = machine.scores[-1]
    age = Text(_age(now_utc_s - machine.scored_utc_s))
    if machine.historical:
        age.append(" old", style="yellow")  # it waited in the spool: what comes now is the past
    return [
        Text(name),
        state,
        Text(f"{score:.2f}", style="red" if score > machine.threshold else "green"),
        Text(f"{machine.threshold:.2f}"),
        _Curve(scores=tuple(machine.scores), threshold=machine.threshold),
        age,
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curve:
    """One bar a score, the newest last and as many as there is room for; red above the threshold."""

    scores: tuple[float, ...]
    threshold: float

    def __rich_measure__(self, _console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(5, options.max_width), min(_CURVE_SCORES, options.max_width))

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        scores = self.scores[-options.max_width :]
        # The scale holds the threshold too: a quiet machine is a low line below it.
        low, high = min(*scores, self.threshold), max(*scores, self.threshold)
        step = (high - low) / (len(_BARS) - 1) or 1.0
        curve = Text()
        for score in scores:
            curve.append(_BARS[round((score - low) / step)], style="red" if score > self.threshold else "green")
        yield curve


def printable(text: str) -> str:
    """What of a text may reach a terminal: anyone may publish on a broker, escape sequences too."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text[:200])


def _utc_s(time_utc: str) -> float:
    return datetime.fromisoformat(time_utc.replace("Z", "+00:00")).timestamp()


def _age(seconds: float) -> str:
    seconds = max(seconds, 0.0)
    for limit, unit_s, unit in ((120, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h")):
        if seconds < limit:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"

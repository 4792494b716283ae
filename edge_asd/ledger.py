"""Numbered messages and announced losses of devices in; out comes whether everything arrived or is accounted for."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from edge_asd.messages import Address
from edge_asd.spool.tables import EVERY_MACHINE

SeqRange: TypeAlias = tuple[int, int]
"""The first and the last of consecutive numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """`count` numbers from first to last that a device said will never come; None where it did not know."""

    first: int | None
    last: int
    count: int | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Consecutive numbers that were not seen; `unexplained` of them no announcement accounts for."""

    first: int
    last: int
    unexplained: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What announcements account for, by cause, and the gaps that they leave.

    over_announced: numbers within the view that were announced as lost and came all the same.
    """

    by_cause: dict[str, int]
    gaps: tuple[Gap, ...]
    over_announced: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One series of a device: a machine's, or that of its health messages where machine is None."""

    site: str
    device: str
    machine: str | None
    first: int
    last: int
    seen: int
    repeats: int
    out_of_order: int
    missing: int
    explained: Explained

    @property
    def unexplained(self) -> int:
        """How many numbers nobody accounts for."""
        return sum(gap.unexplained for gap in self.explained.gaps)


class Numbers:
    """A set of numbers as ranges, which stays small while they come in order."""

    def __init__(self) -> None:
        self.ranges: list[SeqRange] = []

    def add(self, number: int) -> bool:
        """Adds one; False where it is there already."""
        at = bisect_right(self.ranges, (number, math.inf))
        if at and self.ranges[at - 1][1] >= number:
            return False
        joins_left = at > 0 and self.ranges[at - 1][1] == number - 1
        joins_right = at < len(self.ranges) and self.ranges[at][0] == number + 1
        first = self.ranges[at - 1][0] if joins_left else number
        last = self.ranges[at][1] if joins_right else number
        self.ranges[at - joins_left : at + joins_right] = [(first, last)]
        return True

    def missing(self) -> list[SeqRange]:
        """What lies between them."""
        return [(before[1] + 1, after[0] - 1) for before, after in zip(self.ranges, self.ranges[1:], strict=False)]


@dataclass(slots=True)
class _Series:
    numbers: Numbers = field(default_factory=Numbers)
    repeats: int = 0
    out_of_order: int = 0


class Ledger:
    """Keeps book of all messages of all devices, in the order in which they came."""

    def __init__(self) -> None:
        self._series: defaultdict[tuple[str, str, str | None], _Series] = defaultdict(_Series)
        self._announced: defaultdict[tuple[str, str], dict[int, list[tuple[str | None, Announcement]]]] = defaultdict(
            dict
        )

    def hear(self, address: Address, payload: dict[str, Any], *, retained: bool) -> None:
        """Takes in one message, but no availability.

        retained: it lay at the broker: what it announces counts, but that it came says nothing about delivery.

        Raises:
            ValueError: it is not of the contract.
        """
        seq = _whole_number(payload.get("seq"))
        if address.leaf == "health":
            self._announced[address.site, address.device][seq] = [_announcement(drop) for drop in _drops(payload)]
        if retained:
            return
        series = self._series[address.site, address.device, address.machine]
        newest = series.numbers.ranges[-1][1] if series.numbers.ranges else 0
        if not series.numbers.add(seq):
            series.repeats += 1
        elif seq < newest:
            series.out_of_order += 1

    def accounts(self) -> list[Account]:
        """The state of every series, in the order of the names."""
        accounts = []
        for site, device, machine in sorted(self._series, key=lambda key: (*key[:2], key[2] or "")):
            series = self._series[site, device, machine]
            ranges = series.numbers.ranges
            missing = series.numbers.missing()
            announcements = [
                announcement
                for told in self._announced[site, device].values()
                for about, announcement in told
                if about in {machine, EVERY_MACHINE}
            ]
            accounts.append(
                Account(
                    site=site,
                    device=device,
                    machine=machine,
                    first=ranges[0][0],
                    last=ranges[-1][1],
                    seen=sum(last - first + 1 for first, last in ranges),
                    repeats=series.repeats,
                    out_of_order=series.out_of_order,
                    missing=sum(last - first + 1 for first, last in missing),
                    explained=explain(missing, announcements, view=(ranges[0][0], ranges[-1][1])),
                )
            )
        return accounts


def explain(missing: Sequence[SeqRange], announcements: Iterable[Announcement], *, view: SeqRange) -> Explained:
    """Matches missing numbers with announcements so that as few as possible stay unexplained.

    Each announcement accounts for `count` numbers within its range. Going up through the numbers and taking the
    announcement that ends first is the best there is: whatever another choice explains, this one does too.

    missing: ranges in ascending order.
    view: the first and the last number of the series that were seen.
    """
    bounded = sorted(
        (told.first or 0, told.last, told.count, told.why) for told in announcements if told.count is not None
    )
    unbounded = sorted((told.first or 0, told.last, told.why) for told in announcements if told.count is None)
    spans = [(first, last) for first, last, *_ in bounded] + [(first, last) for first, last, _ in unbounded]
    cuts = sorted({edge for first, last in spans for edge in (first, last + 1)})
    by_cause: Counter[str] = Counter()
    open_now: list[list[Any]] = []  # [last, index, count left, why]: a heap by last
    upcoming = 0
    gaps = []
    for gap_first, gap_last in missing:
        unexplained = 0
        for first, last in _pieces(gap_first, gap_last, cuts):
            while upcoming < len(bounded) and bounded[upcoming][0] <= first:
                _, until, count, why = bounded[upcoming]
                heapq.heappush(open_now, [until, upcoming, count, why])
                upcoming += 1
            needed = last - first + 1
            cause = next((why for begin, until, why in unbounded if begin <= first and last <= until), None)
            if cause is not None:
                by_cause[cause] += needed
                continue
            while needed and open_now:
                if open_now[0][0] < first or open_now[0][2] == 0:
                    heapq.heappop(open_now)
                    continue
                taken = min(needed, open_now[0][2])
                open_now[0][2] -= taken
                by_cause[open_now[0][3]] += taken
                needed -= taken
            unexplained += needed
        if unexplained:
            gaps.append(Gap(first=gap_first, last=gap_last, unexplained=unexplained))
    within = sum(count for first, last, count, _ in bounded if view[0] <= first and last <= view[1])
    told = sum(by_cause[why] for why in {why for *_, why in bounded})
    return Explained(
        by_cause=dict(by_cause),
        gaps=tuple(gaps),
        over_announced=0 if unbounded else max(within - told, 0),
    )


def _pieces(first: int, last: int, cuts: Sequence[int]) -> Iterable[SeqRange]:
    """A range, cut where an announcement begins or ends."""
    at = bisect_right(cuts, first)
    while at < len(cuts) and cuts[at] <= last:
        yield first, cuts[at] - 1
        first = cuts[at]
        at += 1
    yield first, last


def _drops(payload: dict[str, Any]) -> list[dict[str, Any]]:
    drops = payload.get("drops")
    if not isinstance(drops, list) or not all(isinstance(drop, dict) for drop in drops):
        raise ValueError("health without a list of drops")
    return drops


def _announcement(drop: dict[str, Any]) -> tuple[str | None, Announcement]:
    machine, first, count, why = (drop.get(key) for key in ("machine", "from", "count", "why"))
    if not isinstance(machine, str | None) or not isinstance(why, str):
        raise ValueError("a loss without machine or cause")  # noqa: TRY004 (whatever is wrong, it is not of the contract)
    return machine, Announcement(
        first=None if first is None else _whole_number(first),
        last=_whole_number(drop.get("to")),
        count=None if count is None else _whole_number(count),
        why=why,
    )


def _whole_number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no number of a message")
    return value

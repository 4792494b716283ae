"""Times of a command line in, POSIX seconds out, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timezone

from edge_asd.bundle import Memory
from edge_asd.errors import UsageError


def parse_times(begin: str, end: str) -> tuple[float, float]:
    """Begin and end in POSIX seconds.

    Raises:
        UsageError: one is no time with an offset, or the end is not after the begin.
    """
    begin_utc_s, end_utc_s = _utc_s(begin), _utc_s(end)
    if not begin_utc_s < end_utc_s:
        raise UsageError(f"from {begin} to {end}: expected an end after the beginning; exchange them")
    return begin_utc_s, end_utc_s


def _utc_s(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text.removesuffix("Z") + "+00:00" if text.endswith("Z") else text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise UsageError(f"{text!r} is no time; expected ISO 8601 with an offset or Z, as 2026-11-21T09:00:00Z")
    return moment.timestamp()


def told_time(utc_s: float) -> str:
    """Whole seconds of a time, as `parse_times` takes it."""
    return f"{datetime.fromtimestamp(utc_s, tz=timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def own_times(begin_utc_s: float, end_utc_s: float) -> tuple[int, int]:
    """Whole seconds within a window, so that to forget them forgets none that is beside it."""
    begin, end = math.ceil(begin_utc_s), math.floor(end_utc_s)
    return (begin, end) if begin < end else (math.floor(begin_utc_s), math.ceil(end_utc_s))


def joined_times(memory: Memory, rows: Sequence[int]) -> list[tuple[int, int]]:
    """The own times of windows, of those that follow one another together; in the order of the rows."""
    begin_utc_s, end_utc_s = memory.begin_utc_s, memory.end_utc_s
    stretches: list[list[int]] = []
    for row in sorted(rows, key=lambda row: float(begin_utc_s[row])):
        before = stretches[-1][-1] if stretches else None
        # No window is between two that are not a window's length apart.
        if before is not None and begin_utc_s[row] - end_utc_s[before] < end_utc_s[row] - begin_utc_s[row]:
            stretches[-1].append(row)
        else:
            stretches.append([row])
    rank = {row: place for place, row in enumerate(rows)}
    stretches.sort(key=lambda stretch: min(rank[row] for row in stretch))
    return [own_times(begin_utc_s[stretch[0]], end_utc_s[stretch[-1]]) for stretch in stretches]

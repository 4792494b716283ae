"""Times of a command line in, POSIX seconds out, and back."""

from __future__ import annotations

from datetime import datetime, timezone

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

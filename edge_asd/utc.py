"""POSIX seconds in, UTC as the MQTT contract and all files write it out."""

from __future__ import annotations

from datetime import datetime, timezone


def iso_utc(utc_s: float) -> str:
    """As 2026-01-31T12:34:56.789Z, the rest of the millisecond cut off."""
    # Without a zone: CPython asks one for its offset by a name that it makes anew each time, and its method cache keeps
    # thousands of these.
    moment = datetime.fromtimestamp(utc_s, tz=timezone.utc).replace(tzinfo=None)
    return moment.isoformat(timespec="milliseconds") + "Z"

"""Retained messages outside the spool in, those that a connection still has to say out."""

from __future__ import annotations

import threading

_MAX_KEPT = 64
"""More topics would be a bug."""


class KeptMessages:
    """Retained messages by topic, the latest of each; any thread may put them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._payloads: dict[str, bytes] = {}
        self._due: set[str] = set()

    def put(self, topic: str, payload: bytes) -> None:
        """Keeps a message in place of the topic's last one, to be said now and on each connection.

        Raises:
            ValueError: that would be more than 64 topics.
        """
        with self._lock:
            if topic not in self._payloads and len(self._payloads) >= _MAX_KEPT:
                raise ValueError(f"{topic}: {_MAX_KEPT} topics are kept already")
            self._payloads[topic] = payload
            self._due.add(topic)

    def begin(self) -> None:
        """A connection begins: all are to be said on it."""
        with self._lock:
            self._due.update(self._payloads)

    def take_due(self, limit: int) -> list[tuple[str, bytes]]:
        """Topic and payload of at most so many that are still to be said."""
        with self._lock:
            due = [(topic, self._payloads[topic]) for topic in sorted(self._due)[:limit]]
            self._due.difference_update(topic for topic, _ in due)
            return due

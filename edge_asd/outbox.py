"""Messages in, numbered and committed to a bounded SQLite spool; out come the oldest ones not yet acknowledged."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edge_asd.errors import TemporaryError
from edge_asd.spool.store import Store
from edge_asd.spool.tables import DEVICE, body
from edge_asd.types import Leaf, OutgoingMessage, SpooledMessage

LOG = logging.getLogger(__name__)

_MAX_REFUSED = 256
_MAX_AGE_S = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolStatus:
    """How full the spool is, and what was lost since it was opened."""

    messages: int
    spool_bytes: int
    max_bytes: int
    dropped: int
    unwritten: int


class Outbox:
    """The spool of one device; safe for a thread that puts and another that delivers.

    max_bytes: bound on the payloads and their bookkeeping; the file on disk stays within about a third above it, plus
    a write-ahead log of about 4 MB.
    max_age_s: bound on how long a message waits. It is counted while a process has the spool open, by a clock that
    never jumps: a wrong date drops nothing.

    What is lost is recorded until a health message tells it: messages that were dropped because the spool was full or
    they were too old, messages that the disk refused, and a spool that was damaged. A health message lists them under
    `drops`, taken over in the transaction that commits it; where it is dropped itself they are told anew.

    Raises:
        TemporaryError: another process has the spool open, or its folder cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        max_age_s: float = _MAX_AGE_S,
        utc_now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._unwritten: Counter[str] = Counter()  # not yet announced
        self._unwritten_total = 0
        self._refused: list[tuple[OutgoingMessage, str]] = []
        self._disk_trouble = False
        try:
            self._store = Store(
                path,
                max_bytes=max_bytes,
                max_age_s=max_age_s,
                utc_now=utc_now,
                monotonic_s=monotonic_s,
                refused=self._report,
            )
        except (OSError, sqlite3.Error) as error:
            raise TemporaryError(
                f"message spool {path}: {error}; expected a spool that this process alone can write: stop another "
                "edge-asd that uses it, or give this device a spool of its own in a folder that it may write"
            ) from error

    def put(self, *, machine: str | None, leaf: Leaf, retain: bool, payload: Mapping[str, object]) -> int | None:
        """Commits one message; see `put_many`."""
        seqs = self.put_many([OutgoingMessage(machine=machine, leaf=leaf, retain=retain, payload=payload)])
        return seqs[0] if seqs else None

    def put_many(
        self, messages: Sequence[OutgoingMessage], *, records: Mapping[str, bytes | None] | None = None
    ) -> list[int]:
        """Numbers the messages and commits them in one transaction; when this returns they survive a power cut.

        records: what the next run has to know, by name, committed in the same transaction; None forgets one. What has
        not changed is not written again. Records outlive a spool that is found damaged while this one runs.

        Returns their sequence numbers; or none at all where the disk refused them. Alarms and states are then kept in
        memory and committed ahead of the next messages that it takes, up to 256 of them; others are counted, and
        announced as lost.

        Raises:
            ValueError: a payload is not JSON, for instance for a NaN.
        """
        new = [(message, body(message.payload)) for message in messages]
        with self._lock:
            due = [*self._refused, *new]
            for name, value in (records or {}).items():
                if value is None:
                    self._store.records.pop(name, None)
                else:
                    self._store.records[name] = value
            try:
                seqs = self._store.commit(due, unwritten=self._unwritten)
            except (OSError, sqlite3.Error) as error:
                self._refuse(due)
                self._report(error)
                return []
            self._refused.clear()
            self._unwritten.clear()
            if self._disk_trouble:
                LOG.warning("message spool %s takes messages again", self._path)
                self._disk_trouble = False
            return seqs[len(due) - len(new) :]

    def records(self) -> dict[str, bytes]:
        """What `put_many` was given to remember, in this run or one before."""
        with self._lock:
            return dict(self._store.records)

    def pending(self, *, limit: int, after: int) -> list[SpooledMessage]:
        """The oldest messages with a row id above `after`, at most `limit` of them."""
        with self._lock:
            picked = self._store.offer(limit, after=after)
        return [
            SpooledMessage(
                row_id=row.row_id,
                machine=row.machine or None,
                leaf=row.leaf,
                retain=row.retain,
                payload={**json.loads(row.payload), "seq": row.seq},
            )
            for row in picked
        ]

    def last_row_id(self) -> int:
        """The row id of the newest message ever committed; 0 before the first."""
        with self._lock:
            return self._store.last_row_id

    def delete(self, row_ids: Collection[int]) -> None:
        """Forgets acknowledged messages. A power cut may bring some of them back: they are then delivered again.

        A disk that refuses this does not hold delivery up: they are taken out with the next ones.
        """
        with self._lock:
            try:
                self._store.remove(row_ids)
            except (OSError, sqlite3.Error) as error:
                self._report(error)

    def status(self) -> SpoolStatus:
        """How full the spool is, and what was lost since it was opened."""
        with self._lock:
            return SpoolStatus(
                messages=self._store.messages,
                spool_bytes=self._store.size_bytes,
                max_bytes=self._max_bytes,
                dropped=self._store.dropped,
                unwritten=self._unwritten_total,
            )

    def close(self) -> None:
        """Closes the database; what is in it waits for the next run."""
        with self._lock:
            self._store.close()

    def _refuse(self, due: Sequence[tuple[OutgoingMessage, str]]) -> None:
        """Keeps what a site acts on in memory, and counts the rest as lost."""
        acted_on = [pair for pair in due if pair[0].leaf in {"alarm", "state"}]
        lost = [message for message, _ in due if message.leaf not in {"alarm", "state"}]
        lost += [message for message, _ in acted_on[:-_MAX_REFUSED]]
        self._refused = acted_on[-_MAX_REFUSED:]
        self._unwritten.update(message.machine or DEVICE for message in lost)
        self._unwritten_total += len(lost)

    def _report(self, error: Exception) -> None:
        """Says once that the disk is in trouble, and gives back the space of the write-ahead log, if that is all."""
        self._store.give_back_log()
        if not self._disk_trouble:
            LOG.error(
                "message spool %s cannot be written (%s); messages are lost until it can: check the disk's space and "
                "health, and the folder's permissions",
                self._path,
                error,
            )
            self._disk_trouble = True

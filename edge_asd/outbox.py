"""Messages in, numbered and committed to a bounded SQLite spool; out come the oldest ones not yet acknowledged."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import TypeVar

from edge_asd.errors import TemporaryError
from edge_asd.spool import SpoolFile, is_damage
from edge_asd.spool.room import Freed, drop_aged, drop_until, remove
from edge_asd.spool.tables import (
    DEVICE,
    EVERY_MACHINE,
    Loss,
    Row,
    body,
    insert,
    last_seqs,
    record_loss,
    rows,
    store_last_seqs,
    store_records,
    stored_records,
    tell_losses,
    totals,
)
from edge_asd.types import Leaf, OutgoingMessage, SpooledMessage

LOG = logging.getLogger(__name__)

UNWRITTEN = "the disk refused them"
_MAX_ROOM_FOR_LOSSES_BYTES = 8 * 1024  # what a health message may have to tell of losses
_MAX_REFUSED = 256
_MAX_AGE_S = 30 * 86_400.0

_Result = TypeVar("_Result")


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
        self._max_bytes = max_bytes
        self._room_for_losses_bytes = min(_MAX_ROOM_FOR_LOSSES_BYTES, max_bytes // 16)
        self._max_age_s = max_age_s
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._offered_row = 0  # rows up to here may have arrived, be it in a run before, and are not dropped
        self._acknowledged: set[int] = set()  # still in the spool; no more than it holds
        self._dropped = 0
        self._unwritten: Counter[str] = Counter()
        self._unwritten_total = 0
        self._refused: list[tuple[OutgoingMessage, str]] = []
        self._disk_trouble = False
        self._database: sqlite3.Connection | None = None
        self._last_row = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = SpoolFile(path, utc_now=utc_now)
            self._offered_row = self._file.mark.offered_row_id
            newest = self._despite_damage(lambda: next(rows(self._opened(), "ORDER BY row_id DESC LIMIT 1"), None))
        except (OSError, sqlite3.Error) as error:
            raise TemporaryError(
                f"message spool {path}: {error}; expected a spool that this process alone can write: stop another "
                "edge-asd that uses it, or give this device a spool of its own in a folder that it may write"
            ) from error
        self._records = dict(self._stored_records)
        self._born_s = monotonic_s() - (newest.spooled_s if newest else 0.0)

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
                    self._records.pop(name, None)
                else:
                    self._records[name] = value
            try:
                seqs = self._despite_damage(lambda: self._commit(due))
            except (OSError, sqlite3.Error) as error:
                self._refuse(due)
                self._report(error)
                return []
            self._refused.clear()
            if self._disk_trouble:
                LOG.warning("message spool %s takes messages again", self._file.path)
                self._disk_trouble = False
            return seqs[len(due) - len(new) :]

    def records(self) -> dict[str, bytes]:
        """What `put_many` was given to remember, in this run or one before."""
        with self._lock:
            return dict(self._records)

    def pending(self, *, limit: int, after: int) -> list[SpooledMessage]:
        """The oldest messages with a row id above `after`, at most `limit` of them."""
        with self._lock:
            picked = self._despite_damage(lambda: self._pick(limit, after))
            if picked:
                self._offered_row = max(self._offered_row, picked[-1].row_id)
                self._note()
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
            return self._last_row

    def delete(self, row_ids: Collection[int]) -> None:
        """Forgets acknowledged messages. A power cut may bring some of them back: they are then delivered again.

        A disk that refuses this does not hold delivery up: they are taken out with the next ones.
        """
        with self._lock:
            self._acknowledged.update(row_ids)
            try:
                self._despite_damage(self._remove_acknowledged)
            except (OSError, sqlite3.Error) as error:
                self._report(error)

    def status(self) -> SpoolStatus:
        """How full the spool is, and what was lost since it was opened."""
        with self._lock:
            return SpoolStatus(
                messages=self._messages,
                spool_bytes=self._spool_bytes,
                max_bytes=self._max_bytes,
                dropped=self._dropped,
                unwritten=self._unwritten_total,
            )

    def close(self) -> None:
        """Closes the database; what is in it waits for the next run."""
        with self._lock:
            if self._database is not None:
                self._database.close()
            self._file.close()

    def _opened(self) -> sqlite3.Connection:
        """The database; where the last one was given up and could not be replaced, that is tried again."""
        if self._database is None:
            self._use(self._file.open())
        assert self._database is not None  # noqa: S101 (for mypy)
        return self._database

    def _use(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._messages, self._spool_bytes, self._last_row = totals(database)
        self._last_seqs = last_seqs(database)
        self._stored_records = stored_records(database)

    def _despite_damage(self, action: Callable[[], _Result]) -> _Result:
        """Does it, if need be a second time with a new database instead of a damaged one."""
        try:
            return action()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            if self._database is not None:
                self._database.close()
                self._database = None
            self._use(self._file.replace(str(error), last_row_id=self._last_row))
            return action()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        database = self._opened()
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise

    def _refuse(self, due: Sequence[tuple[OutgoingMessage, str]]) -> None:
        """Keeps what a site acts on in memory, and counts the rest as lost."""
        acted_on = [pair for pair in due if pair[0].leaf in {"alarm", "state"}]
        lost = [message for message, _ in due if message.leaf not in {"alarm", "state"}]
        lost += [message for message, _ in acted_on[:-_MAX_REFUSED]]
        self._refused = acted_on[-_MAX_REFUSED:]
        self._unwritten.update(message.machine or DEVICE for message in lost)
        self._unwritten_total += len(lost)

    def _commit(self, due: Sequence[tuple[OutgoingMessage, str]]) -> list[int]:
        self._opened()
        taken: dict[str, int] = {}
        seqs = [0] * len(due)
        added_bytes = 0
        row_id = self._last_row
        age_s = self._monotonic_s() - self._born_s
        freed: list[Freed] = []
        with self._transaction() as database:

            def excess_bytes() -> int:
                return self._spool_bytes + added_bytes - sum(each.size_bytes for each in freed) - self._max_bytes

            for machine, count in self._unwritten.items():
                last = self._take_seqs(taken, machine, count)
                loss = Loss(machine=machine, why=UNWRITTEN, first=last - count + 1, last=last, count=count)
                record_loss(database, loss)
            freed.append(drop_aged(database, before_s=age_s - self._max_age_s, after=self._offered_row))
            for place in sorted(range(len(due)), key=lambda place: due[place][0].leaf == "health"):
                message, payload = due[place]
                if message.leaf == "health":
                    # What it would push out it tells of itself: it may be the last one for long.
                    room_bytes = excess_bytes() + len(payload.encode()) + self._room_for_losses_bytes
                    freed.append(
                        drop_until(database, excess_bytes=room_bytes, after=self._offered_row, scores_alone=True)
                    )
                    payload = tell_losses(database, message)
                row_id += 1
                row = Row(
                    row_id=row_id,
                    machine=message.machine or DEVICE,
                    leaf=message.leaf,
                    seq=self._take_seqs(taken, message.machine or DEVICE, 1),
                    retain=message.retain,
                    spooled_s=age_s,
                    payload=payload,
                )
                insert(database, row)
                seqs[place] = row.seq
                added_bytes += row.size_bytes
            store_last_seqs(database, taken)
            freed.append(drop_until(database, excess_bytes=excess_bytes(), after=self._offered_row))
            store_records(database, new=self._records, stored=self._stored_records)
        self._stored_records = dict(self._records)
        self._last_seqs.update(taken)
        self._unwritten.clear()
        self._last_row = row_id
        self._messages += len(due)
        self._spool_bytes += added_bytes
        for each in freed:
            self._account(each)
            self._dropped += each.messages
        self._note()
        return seqs

    def _take_seqs(self, taken: dict[str, int], machine: str, count: int) -> int:
        """Takes the machine's next `count` numbers and returns the last of them."""
        last = taken.get(machine) or max(self._last_seqs.get(machine, 0), self._last_seqs.get(EVERY_MACHINE, 0))
        taken[machine] = last + count
        self._file.ceiling.reserve(last + count)
        return last + count

    def _pick(self, limit: int, after: int) -> list[Row]:
        """The oldest rows, but for those that were delivered and could not be taken out yet."""
        waiting = rows(self._opened(), "WHERE row_id > ? ORDER BY row_id", (after,))
        return list(islice((row for row in waiting if row.row_id not in self._acknowledged), limit))

    def _remove_acknowledged(self) -> None:
        database = self._opened()
        try:
            # Nothing is lost with this transaction, so it need not wait for the disk.
            database.execute("PRAGMA synchronous = NORMAL")
            with self._transaction():
                freed = remove(database, self._acknowledged)
        finally:
            database.execute("PRAGMA synchronous = FULL")
        self._acknowledged.clear()
        self._account(freed)

    def _note(self) -> None:
        """Leaves a mark of how far commits and offers came; without it they are no less good."""
        try:
            self._file.mark.note(row_id=self._last_row, offered_row_id=self._offered_row)
        except OSError as error:
            self._report(error)

    def _account(self, freed: Freed) -> None:
        self._messages -= freed.messages
        self._spool_bytes -= freed.size_bytes

    def _report(self, error: Exception) -> None:
        """Says once that the disk is in trouble, and gives back the space of the write-ahead log, if that is all."""
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if not self._disk_trouble:
            LOG.error(
                "message spool %s cannot be written (%s); messages are lost until it can: check the disk's space and "
                "health, and the folder's permissions",
                self._file.path,
                error,
            )
            self._disk_trouble = True

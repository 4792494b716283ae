"""Messages in, numbered rows of the spool's database out, oldest first; what is found damaged is replaced meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TypeVar

from edge_asd.spool.file import SpoolFile, is_damage
from edge_asd.spool.room import Freed, drop_aged, drop_until, remove
from edge_asd.spool.tables import (
    DEVICE,
    EVERY_MACHINE,
    Loss,
    Row,
    insert,
    last_seqs,
    record_loss,
    rows,
    skip_row_id,
    store_last_seqs,
    store_records,
    stored_records,
    tell_losses,
    totals,
)
from edge_asd.types import OutgoingMessage

UNWRITTEN = "the disk refused them"
_MAX_ROOM_FOR_LOSSES_BYTES = 8 * 1024  # what a health message may have to tell of losses

_Result = TypeVar("_Result")


class Store:
    """The rows of one spool, within a bound of bytes and age; for one thread at a time.

    records: what the next run has to know, by name; what differs from the disk is written with the next commit.
    messages, size_bytes: what waits, and what it counts against the bound.
    dropped: how many messages had to go since the spool was opened.
    last_row_id: of the newest message ever committed.

    Args:
        path: of the database.
        max_bytes, max_age_s: as in `edge_asd.outbox.Outbox`.
        utc_now, monotonic_s: clocks.
        refused: told of what the disk refused where that is no reason to stop.

    Raises:
        OSError, sqlite3.Error: the disk refused it, or another process has the database; so does every method.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        max_age_s: float,
        utc_now: Callable[[], datetime],
        monotonic_s: Callable[[], float],
        refused: Callable[[Exception], None],
    ) -> None:
        self._max_bytes = max_bytes
        self._room_for_losses_bytes = min(_MAX_ROOM_FOR_LOSSES_BYTES, max_bytes // 16)
        self._max_age_s = max_age_s
        self._monotonic_s = monotonic_s
        self._refused = refused
        self._acknowledged: set[int] = set()  # still in the spool; no more than it holds
        self._database: sqlite3.Connection | None = None
        self.dropped = 0
        self.last_row_id = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = SpoolFile(path, utc_now=utc_now)
        # Rows up to here may have arrived, be it in a run before, and are not dropped.
        self._offered_row = self._file.mark.offered_row_id
        newest = self._despite_damage(lambda: next(rows(self.database, "ORDER BY row_id DESC LIMIT 1"), None))
        self.records = dict(self._stored_records)
        self._born_s = monotonic_s() - (newest.spooled_s if newest else 0.0)

    @property
    def database(self) -> sqlite3.Connection:
        """Where the last one was given up and could not be replaced, that is tried again."""
        if self._database is None:
            self._use(self._file.open())
        assert self._database is not None  # noqa: S101 (for mypy)
        return self._database

    def commit(self, due: Sequence[tuple[OutgoingMessage, str]], *, unwritten: Mapping[str, int]) -> list[int]:
        """Numbers messages and commits them with the records, in one transaction; returns the numbers.

        due: each with its payload as it is stored. unwritten: by machine how many messages the disk refused before,
        which are lost.
        """
        return self._despite_damage(lambda: self._commit(due, unwritten))

    def offer(self, limit: int, *, after: int) -> list[Row]:
        """The oldest rows with an id above `after`; from now on they may have arrived."""
        picked = self._despite_damage(lambda: self._pick(limit, after))
        if picked:
            self._offered_row = max(self._offered_row, picked[-1].row_id)
            self._note()
        return picked

    def remove(self, row_ids: Collection[int]) -> None:
        """Takes out what was delivered, and what could not be taken out before."""
        self._acknowledged.update(row_ids)
        self._despite_damage(self._remove_acknowledged)

    def give_back_log(self) -> None:
        """Frees what the write-ahead log takes of the disk, as far as that can be done."""
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Closes the files; what is in them waits for the next run."""
        if self._database is not None:
            self._database.close()
        self._file.close()

    def _use(self, database: sqlite3.Connection) -> None:
        self._database = database
        self.messages, self.size_bytes, self.last_row_id = totals(database)
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
            self._use(self._file.replace(str(error), last_row_id=self.last_row_id))
            return action()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        database = self.database
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise

    def _commit(self, due: Sequence[tuple[OutgoingMessage, str]], unwritten: Mapping[str, int]) -> list[int]:
        taken: dict[str, int] = {}
        seqs = [0] * len(due)
        added_bytes = 0
        age_s = self._monotonic_s() - self._born_s
        freed: list[Freed] = []
        with self._transaction() as database:
            row_id = self.last_row_id

            def excess_bytes() -> int:
                return self.size_bytes + added_bytes - sum(each.size_bytes for each in freed) - self._max_bytes

            for machine, count in unwritten.items():
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
                seqs[place] = self._take_seqs(taken, message.machine or DEVICE, 1)
                row = _row(message, payload, row_id=row_id, seq=seqs[place], spooled_s=age_s)
                insert(database, row)
                added_bytes += row.size_bytes
            store_last_seqs(database, taken)
            freed.append(drop_until(database, excess_bytes=excess_bytes(), after=self._offered_row))
            store_records(database, new=self.records, stored=self._stored_records)
            if not due and self.records != self._stored_records:
                row_id += 1  # so that the mark sees such a commit too, and that it is lost
                skip_row_id(database, row_id)
        self._stored_records = dict(self.records)
        self._last_seqs.update(taken)
        self.last_row_id = row_id
        self.messages += len(due)
        self.size_bytes += added_bytes
        for each in freed:
            self._account(each)
            self.dropped += each.messages
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
        waiting = rows(self.database, "WHERE row_id > ? ORDER BY row_id", (after,))
        return list(islice((row for row in waiting if row.row_id not in self._acknowledged), limit))

    def _remove_acknowledged(self) -> None:
        database = self.database
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
            self._file.mark.note(row_id=self.last_row_id, offered_row_id=self._offered_row)
        except OSError as error:
            self._refused(error)

    def _account(self, freed: Freed) -> None:
        self.messages -= freed.messages
        self.size_bytes -= freed.size_bytes


def _row(message: OutgoingMessage, payload: str, *, row_id: int, seq: int, spooled_s: float) -> Row:
    return Row(
        row_id=row_id,
        machine=message.machine or DEVICE,
        leaf=message.leaf,
        seq=seq,
        retain=message.retain,
        spooled_s=spooled_s,
        payload=payload,
    )

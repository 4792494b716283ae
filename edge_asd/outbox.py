"""Messages in, numbered and committed to a bounded SQLite spool; out come the oldest ones not yet acknowledged."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edge_asd.errors import TemporaryError
from edge_asd.spool import EVERY_MACHINE, SpoolFile, is_damage, record_loss
from edge_asd.types import Leaf, OutgoingMessage, SpooledMessage

LOG = logging.getLogger(__name__)

# What goes first when the spool is full: scores, then health, and last what a site acts on.
_DROP_ORDER: Mapping[Leaf, int] = {"score": 0, "health": 1, "state": 2, "alarm": 2}
_ROW_OVERHEAD_BYTES = 64
_DEVICE = ""  # the machine column of messages about the device itself


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

    max_bytes: bound on the payloads and their bookkeeping; the file on disk stays within about a fifth above it, plus
    a write-ahead log of about 4 MB.

    What is lost is recorded until a health message tells it: messages that a full spool dropped, messages that the
    disk refused, and a spool that was damaged. A health message lists them under `drops`, taken over in the transaction
    that commits it; they are forgotten when it is deleted, and told anew if it is dropped itself.

    Raises:
        TemporaryError: another process has the spool open, or its folder cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        utc_now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._offered_row = 0  # rows up to here may be in flight and are not dropped
        self._dropped = 0
        self._unwritten: Counter[str] = Counter()
        self._unwritten_total = 0
        self._disk_trouble = False
        self._records: dict[str, bytes] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = SpoolFile(path, utc_now=utc_now)
            self._use(self._file.open())
            self._records = dict(self._stored_records)
        except (OSError, sqlite3.OperationalError) as error:
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

        Returns their sequence numbers; or none at all where the disk refused them: they are counted, and announced as
        lost once it takes messages again.

        Raises:
            ValueError: a payload is not JSON, for instance for a NaN.
        """
        bodies = [_json(message.payload) for message in messages]
        with self._lock:
            for name, value in (records or {}).items():
                if value is None:
                    self._records.pop(name, None)
                else:
                    self._records[name] = value
            try:
                try:
                    seqs = self._commit(messages, bodies)
                except sqlite3.DatabaseError as error:
                    self._replace_if_damaged(error)
                    seqs = self._commit(messages, bodies)
            except (OSError, sqlite3.Error) as error:
                self._count_unwritten(messages, error)
                return []
            if self._disk_trouble:
                LOG.warning("message spool %s takes messages again", self._file.path)
                self._disk_trouble = False
            return seqs

    def records(self) -> dict[str, bytes]:
        """What `put_many` was given to remember, in this run or one before."""
        with self._lock:
            return dict(self._records)

    def pending(self, *, limit: int, after: int) -> list[SpooledMessage]:
        """The oldest messages with a row id above `after`, at most `limit` of them."""
        with self._lock:
            try:
                rows = self._database.execute(
                    "SELECT row_id, machine, leaf, seq, retain, payload FROM message "
                    "WHERE row_id > ? ORDER BY row_id LIMIT ?",
                    (after, limit),
                ).fetchall()
            except sqlite3.DatabaseError as error:
                self._replace_if_damaged(error)
                rows = []
            if rows:
                self._offered_row = max(self._offered_row, rows[-1][0])
        return [
            SpooledMessage(
                row_id=row_id,
                machine=machine or None,
                leaf=leaf,
                retain=bool(retain),
                payload={**json.loads(payload), "seq": seq},
            )
            for row_id, machine, leaf, seq, retain, payload in rows
        ]

    def last_row_id(self) -> int:
        """The row id of the newest message ever committed; 0 before the first."""
        with self._lock:
            return int(self._last_row)

    def delete(self, row_ids: Collection[int]) -> None:
        """Forgets acknowledged messages. A power cut may bring some of them back: they are then delivered again."""
        with self._lock:
            try:
                # Nothing is lost with this transaction, so it need not wait for the disk.
                self._database.execute("PRAGMA synchronous = NORMAL")
                with self._transaction():
                    freed = self._remove(row_ids)
                    self._database.executemany("DELETE FROM loss WHERE announced_by = ?", [(row,) for row in row_ids])
                self._spool_bytes -= freed
            except sqlite3.DatabaseError as error:
                self._replace_if_damaged(error)
            finally:
                self._database.execute("PRAGMA synchronous = FULL")

    def status(self) -> SpoolStatus:
        """How full the spool is, and what was lost since it was opened."""
        with self._lock:
            (messages,) = self._database.execute("SELECT count(*) FROM message").fetchone()
            return SpoolStatus(
                messages=messages,
                spool_bytes=self._spool_bytes,
                max_bytes=self._max_bytes,
                dropped=self._dropped,
                unwritten=self._unwritten_total,
            )

    def close(self) -> None:
        """Closes the database; what is in it waits for the next run."""
        with self._lock:
            self._database.close()

    def _use(self, database: sqlite3.Connection) -> None:
        self._database = database
        (self._spool_bytes,) = database.execute("SELECT coalesce(sum(bytes), 0) FROM message").fetchone()
        (self._last_row,) = database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'message'").fetchone()
        rows = database.execute("SELECT CAST(name AS BLOB), CAST(value AS BLOB) FROM record").fetchall()
        # As text, a name whose bytes were altered on the disk would keep the spool from opening.
        self._stored_records: dict[str, bytes] = {name.decode(errors="replace"): value for name, value in rows}

    def _replace_if_damaged(self, error: sqlite3.DatabaseError) -> None:
        """Goes on with a new database where the present one is damaged; raises any other error again."""
        if not is_damage(error):
            raise error
        self._database.close()
        self._use(self._file.replace(str(error), last_row_id=self._last_row))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def _commit(self, messages: Sequence[OutgoingMessage], bodies: Sequence[str]) -> list[int]:
        seqs = []
        added = 0
        last_row = self._last_row
        with self._transaction():
            for machine, count in self._unwritten.items():
                last = self._take_seqs(machine, count)
                seq_range = (last - count + 1, last)
                record_loss(self._database, machine=machine, seqs=seq_range, count=count, why="the disk refused them")
            for message, body in zip(messages, bodies, strict=True):
                seq = self._take_seqs(message.machine or _DEVICE, 1)
                last_row, size = self._insert(message, seq=seq, body=body)
                seqs.append(seq)
                added += size
            freed, dropped = self._make_room(self._spool_bytes + added - self._max_bytes)
            self._store_records()
        self._stored_records = dict(self._records)
        self._unwritten.clear()
        self._last_row = last_row
        self._spool_bytes += added - freed
        self._dropped += dropped
        return seqs

    def _store_records(self) -> None:
        changed = self._records.items() - self._stored_records.items()
        self._database.executemany("INSERT OR REPLACE INTO record VALUES (?, ?)", changed)
        gone = self._stored_records.keys() - self._records.keys()
        self._database.executemany("DELETE FROM record WHERE name = ?", [(name,) for name in gone])

    def _take_seqs(self, machine: str, count: int) -> int:
        """Takes the machine's next `count` numbers and returns the last of them."""
        (last,) = self._database.execute(
            "SELECT coalesce(max(seq), 0) FROM last_seq WHERE machine IN (?, ?)", (machine, EVERY_MACHINE)
        ).fetchone()
        last += count
        self._file.reserve(last)
        self._database.execute("INSERT OR REPLACE INTO last_seq VALUES (?, ?)", (machine, last))
        return int(last)

    def _insert(self, message: OutgoingMessage, *, seq: int, body: str) -> tuple[int, int]:
        """Inserts one row and returns its id and its size in bytes."""
        if message.leaf == "health":
            losses = self._database.execute(
                "SELECT machine, from_seq, to_seq, count, why FROM loss WHERE announced_by IS NULL ORDER BY rowid"
            ).fetchall()
            drops = [
                {"machine": machine or None, "from": first, "to": last, "count": count, "why": why}
                for machine, first, last, count, why in losses
            ]
            body = _json({**message.payload, "drops": drops})
        size = len(body.encode()) + _ROW_OVERHEAD_BYTES
        (row_id,) = self._database.execute(
            "INSERT INTO message (machine, leaf, seq, retain, drop_order, bytes, payload) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING row_id",
            (message.machine or _DEVICE, message.leaf, seq, message.retain, _DROP_ORDER[message.leaf], size, body),
        ).fetchone()
        if message.leaf == "health":
            self._database.execute("UPDATE loss SET announced_by = ? WHERE announced_by IS NULL", (row_id,))
        return row_id, size

    def _make_room(self, excess_bytes: int) -> tuple[int, int]:
        """Drops what matters least until `excess_bytes` are free; returns the bytes freed and the messages dropped."""
        if excess_bytes <= 0:
            return 0, 0
        dropped = []
        candidates = self._database.execute(
            "SELECT row_id, machine, seq, bytes FROM message WHERE row_id > ? ORDER BY drop_order, row_id",
            (self._offered_row,),
        )
        for row_id, machine, seq, size in candidates:
            dropped.append((row_id, machine, seq))
            excess_bytes -= size
            if excess_bytes <= 0:
                break
        candidates.close()
        for row_id, machine, seq in dropped:
            record_loss(self._database, machine=machine, seqs=(seq, seq), count=1, why="the message spool was full")
            self._tell_again(row_id)
        return self._remove([row_id for row_id, _, _ in dropped]), len(dropped)

    def _tell_again(self, row_id: int) -> None:
        """Takes back what a health message announced that is dropped itself."""
        losses = self._database.execute(
            "SELECT machine, from_seq, to_seq, count, why FROM loss WHERE announced_by = ?", (row_id,)
        ).fetchall()
        self._database.execute("DELETE FROM loss WHERE announced_by = ?", (row_id,))
        for machine, first, last, count, why in losses:
            record_loss(self._database, machine=machine, seqs=(first, last), count=count, why=why)

    def _remove(self, row_ids: Collection[int]) -> int:
        """Deletes rows and returns how many bytes that frees."""
        freed = 0
        for row_id in row_ids:
            row = self._database.execute("SELECT bytes FROM message WHERE row_id = ?", (row_id,)).fetchone()
            freed += row[0] if row else 0
        self._database.executemany("DELETE FROM message WHERE row_id = ?", [(row_id,) for row_id in row_ids])
        return freed

    def _count_unwritten(self, messages: Sequence[OutgoingMessage], error: Exception) -> None:
        self._unwritten.update(message.machine or _DEVICE for message in messages)
        self._unwritten_total += len(messages)
        if not self._disk_trouble:
            LOG.error(
                "message spool %s cannot be written (%s); messages are lost until it can: check the disk's space and "
                "health, and the folder's permissions",
                self._file.path,
                error,
            )
            self._disk_trouble = True


def _json(payload: Mapping[str, object]) -> str:
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

"""The spool's file: a path in, a sound SQLite database out, whatever was found there, and numbers that never repeat."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

from edge_asd.spool.marks import Ceiling, Mark
from edge_asd.spool.tables import (
    EVERY_MACHINE,
    Loss,
    Row,
    SpoolDamage,
    create,
    damage_of,
    insert,
    record_loss,
    store_last_seqs,
    store_records,
    stored_records,
    teach,
    whole_rows,
)

LOG = logging.getLogger(__name__)

_NOT_THE_FILE = ("locked", "full", "i/o error", "unable to open", "readonly", "interrupted", "out of memory")
_WAL_FORMAT = b"\x02\x02"
_ROLLBACK_FORMAT = b"\x01\x01"
_MAX_ROW_ID = 2**53  # beyond it nothing was ever counted, and SQLite would soon have no ids left


class SpoolFile:
    """The database of the spool and, beside it, a ceiling of its sequence numbers and a mark of its last commit.

    A database that is damaged is renamed and replaced by a new one, into which the messages that are whole are taken
    over. Numbers then go on above the ceiling, and the leap is recorded as a loss of unknown size.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, path: Path, *, utc_now: Callable[[], datetime]) -> None:
        self.path = path
        self._utc_now = utc_now
        self.ceiling = Ceiling(path.with_name(path.name + ".ceiling"))
        self.mark = Mark(path.with_name(path.name + ".mark"))

    def open(self) -> sqlite3.Connection:
        """Opens the database, replaces a damaged one, and makes one where there is none.

        Raises:
            sqlite3.OperationalError: it is locked by another process, or cannot be read or written.
        """
        was_there = self.path.exists() and self.path.stat().st_size > 0
        if not was_there:
            return self._create("the message spool was missing", last_row_id=self.mark.row_id)
        with self.path.open("rb") as file:
            header = file.read(20)
        if header[18:] not in {_WAL_FORMAT, _ROLLBACK_FORMAT}:
            return self.replace("unknown file format", last_row_id=0)
        database, damage = self._examined()
        if database is not None:
            return database
        if damage is None:
            # A power cut between making the file and its tables: it held no message yet.
            return self._create("the message spool was missing", last_row_id=0)
        return self.replace(damage, last_row_id=0)

    def replace(self, damage: str, *, last_row_id: int) -> sqlite3.Connection:
        """Renames the damaged database, so that it can be examined, and makes a new one of what is whole in it.

        last_row_id: row ids of new messages begin above it, for readers that remember how far they came.

        Raises:
            OSError, sqlite3.Error: the disk refused it.
        """
        path = self.path
        for old in path.parent.glob(path.name + ".damaged-*"):
            old.unlink()  # one of them is enough: they would fill the disk of a device that is left alone
        target = path.with_name(f"{path.name}.damaged-{self._utc_now():%Y%m%dT%H%M%SZ}")
        # The log goes first: one that stayed behind would be played into the new database.
        for suffix in ("-wal", "-shm", ""):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(target.with_name(target.name + suffix))
        salvaged, kept_records = _salvage(target)
        LOG.error("message spool %s is damaged (%s); set aside as %s, %d messages were saved from it", path, damage,
                  target.name, len(salvaged))  # fmt: skip
        last_row_id = max(last_row_id, self.mark.row_id, *(row.row_id for row in salvaged), 0)
        return self._create(
            "the message spool was damaged and set aside",
            last_row_id=last_row_id,
            salvaged=salvaged,
            kept_records=kept_records,
        )

    def close(self) -> None:
        """Closes the files beside the database, which its user closes."""
        self.mark.close()

    def _examined(self) -> tuple[sqlite3.Connection | None, str | None]:
        """The database if it is sound, else what is wrong with it; neither where it is still empty."""
        database = None
        try:
            with _unreadable_is_damage():
                database = _connect(self.path)
                (version,) = database.execute("PRAGMA user_version").fetchone()
                if (
                    version == 0
                    and self.mark.row_id == 0
                    and not database.execute("SELECT 1 FROM sqlite_master").fetchone()
                ):
                    damage = None
                else:
                    damage = damage_of(database) or self._lost_commits(database)
                    if damage is None:
                        return database, None
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            damage = str(error)
        if database is not None:
            database.close()
        return None, damage

    def _create(
        self,
        why: str,
        *,
        last_row_id: int,
        salvaged: list[Row] | None = None,
        kept_records: dict[str, bytes] | None = None,
    ) -> sqlite3.Connection:
        database = _connect(self.path)
        database.execute("BEGIN IMMEDIATE")
        create(database, last_row_id=last_row_id)
        for row in salvaged or ():
            insert(database, row)
        store_records(database, new=kept_records or {}, stored={})
        ceiling = self.ceiling.value
        if ceiling:
            store_last_seqs(database, {EVERY_MACHINE: ceiling})
            record_loss(database, Loss(machine=EVERY_MACHINE, why=why, first=None, last=ceiling, count=None))
        database.execute("COMMIT")
        return database

    def _lost_commits(self, database: sqlite3.Connection) -> str | None:
        (last_row,) = database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'message'").fetchone()
        if not isinstance(last_row, int) or not self.mark.row_id <= last_row < _MAX_ROW_ID:
            return f"it ends at message {last_row}, after {self.mark.row_id} were committed"
        return None


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is at fault, and not the disk, another process or ourselves.

    Source: messages of SQLite's result codes BUSY, LOCKED, FULL, IOERR, CANTOPEN, READONLY, INTERRUPT and NOMEM; Python
    3.10 gives no more than the message.
    """
    if isinstance(error, sqlite3.ProgrammingError):
        return False
    return not any(words in str(error).lower() for words in _NOT_THE_FILE)


@contextmanager
def _unreadable_is_damage() -> Iterator[None]:
    """Where the tables' own words are altered, SQLite quotes them, and Python cannot read what is no text any more."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise SpoolDamage(f"its tables cannot be read: {error.object!r}") from error


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=2.0, isolation_level=None, check_same_thread=False)
    try:
        teach(database)
        # One process alone: two daemons on one spool would each deliver half of the other's messages.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA cell_size_check = ON")
    except (sqlite3.Error, UnicodeDecodeError):
        database.close()
        raise
    return database


def _salvage(path: Path) -> tuple[list[Row], dict[str, bytes]]:
    """The messages and records of a damaged database that are whole, read from both ends up to what is unreadable."""
    salvaged: dict[int, Row] = {}
    kept_records: dict[str, bytes] = {}
    for newest_first in (False, True):
        try:
            with _unreadable_is_damage(), closing(_connect(path)) as database:
                for row in whole_rows(database, newest_first=newest_first):
                    if row.row_id in salvaged:
                        break
                    salvaged[row.row_id] = row
                kept_records = stored_records(database)
        except sqlite3.Error as error:
            LOG.warning("message spool %s cannot be read in full (%s)", path, error)
    return [salvaged[row_id] for row_id in sorted(salvaged)], kept_records

"""The spool's file: a path in, a sound SQLite database out, whatever was found there, and numbers that never repeat."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

LOG = logging.getLogger(__name__)

SCHEMA_VERSION = 2
EVERY_MACHINE = "*"
"""Stands for the machine in a loss that hit every machine of the device and its health messages."""

_SEQ_RESERVATION = 100_000
_TABLES = f"""
BEGIN IMMEDIATE;
CREATE TABLE message (
    row_id INTEGER PRIMARY KEY AUTOINCREMENT,
    machine TEXT NOT NULL, leaf TEXT NOT NULL, seq INTEGER NOT NULL, retain INTEGER NOT NULL,
    drop_order INTEGER NOT NULL, bytes INTEGER NOT NULL, payload TEXT NOT NULL
);
CREATE INDEX message_drop ON message (drop_order, row_id);
CREATE TABLE last_seq (machine TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE loss (
    machine TEXT NOT NULL, why TEXT NOT NULL, from_seq INTEGER, to_seq INTEGER NOT NULL, count INTEGER,
    announced_by INTEGER
);
CREATE UNIQUE INDEX loss_open ON loss (machine, why) WHERE announced_by IS NULL;
CREATE TABLE record (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {SCHEMA_VERSION};
"""


class SpoolFile:
    """The database of the spool and, beside it in PATH.ceiling, a number above all sequence numbers ever given out.

    A database that is damaged is renamed and replaced by a new one. Numbers then go on above the ceiling, and the leap
    is recorded as a loss of unknown size.
    """

    def __init__(self, path: Path, *, utc_now: Callable[[], datetime]) -> None:
        self.path = path
        self._utc_now = utc_now
        self._ceiling_path = path.with_name(path.name + ".ceiling")
        self._ceiling = _read_ceiling(self._ceiling_path)

    def open(self) -> sqlite3.Connection:
        """Opens the database, replaces a damaged one, and makes one where there is none.

        Raises:
            sqlite3.OperationalError: it is locked by another process, or cannot be read or written.
        """
        path = self.path
        was_there = path.exists() and path.stat().st_size > 0
        try:
            database = _connect(path)
            (version,) = database.execute("PRAGMA user_version").fetchone()
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            return self.replace(str(error), last_row_id=0)
        # A power cut between making the file and its tables leaves version 0, which held no message yet.
        if not was_there or (version == 0 and verdict == "ok"):
            self._create(database, why="the message spool was missing", last_row_id=0)
        elif (version, verdict) != (SCHEMA_VERSION, "ok"):
            database.close()
            return self.replace(f"schema version {version}, integrity {verdict}", last_row_id=0)
        return database

    def replace(self, damage: str, *, last_row_id: int) -> sqlite3.Connection:
        """Renames the damaged database, so that it can be examined, and makes a new one.

        last_row_id: row ids of the new one begin above it, for readers that remember how far they came.
        """
        path = self.path
        for old in path.parent.glob(path.name + ".damaged-*"):
            old.unlink()  # one of them is enough: they would fill the disk of a device that is left alone
        target = f"{path.name}.damaged-{self._utc_now():%Y%m%dT%H%M%SZ}"
        for suffix in ("", "-wal", "-shm"):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(path.with_name(target + suffix))
        LOG.error("message spool %s is damaged (%s); set aside as %s, its messages are lost", path, damage, target)
        database = _connect(path)
        self._create(database, why="the message spool was damaged and set aside", last_row_id=last_row_id)
        return database

    def reserve(self, seq: int) -> None:
        """Makes sure that the ceiling on disk is not below `seq`; it is raised in large steps, so seldom written.

        Raises:
            OSError: the disk refused it.
        """
        if seq > self._ceiling:
            _write_ceiling(self._ceiling_path, seq + _SEQ_RESERVATION)
            self._ceiling = seq + _SEQ_RESERVATION

    def _create(self, database: sqlite3.Connection, *, why: str, last_row_id: int) -> None:
        database.executescript(_TABLES)
        database.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('message', ?)", (last_row_id,))
        if self._ceiling:
            database.execute("INSERT INTO last_seq VALUES (?, ?)", (EVERY_MACHINE, self._ceiling))
            record_loss(database, machine=EVERY_MACHINE, seqs=(None, self._ceiling), count=None, why=why)
        database.execute("COMMIT")


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is damaged, and not merely locked, full or read-only.

    Source: CPython maps SQLITE_CORRUPT and SQLITE_NOTADB, and little else, to DatabaseError itself.
    """
    return type(error) is sqlite3.DatabaseError


def record_loss(
    database: sqlite3.Connection, *, machine: str, seqs: tuple[int | None, int], count: int | None, why: str
) -> None:
    """Adds to the loss of that machine and cause that no health message has told yet.

    seqs: the first and the last number, None where unknown; `count` of the numbers between them are lost.
    """
    database.execute(
        "INSERT INTO loss (machine, why, from_seq, to_seq, count) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (machine, why) WHERE announced_by IS NULL DO UPDATE SET "
        "from_seq = min(from_seq, excluded.from_seq), to_seq = max(to_seq, excluded.to_seq), "
        "count = count + excluded.count",
        (machine, why, *seqs, count),
    )


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=2.0, isolation_level=None, check_same_thread=False)
    # One process alone: two daemons on one spool would each deliver half of the other's messages.
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    return database


def _read_ceiling(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        return 0
    except ValueError:
        LOG.exception("%s does not hold a number; if the message spool is lost too, numbers may come twice", path)
        return 0


def _write_ceiling(path: Path, ceiling: int) -> None:
    """Replaces the file so that a power cut leaves the old number or the new one."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("w", encoding="ascii") as file:
        file.write(f"{ceiling}\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

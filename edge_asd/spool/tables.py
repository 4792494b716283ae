"""Rows of the spool in, rows out: its tables, the checksum that each row carries, and the losses not yet told."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_asd.types import Leaf, OutgoingMessage

SCHEMA_VERSION = 3
EVERY_MACHINE = "*"
"""Stands for the machine in a loss that hit every machine of the device and its health messages."""

DEVICE = ""
"""The machine column of messages about the device itself."""

ROW_OVERHEAD_BYTES = 64
KEPT_OF_SCORES = 10
"""Where room is needed, one score in so many outlives the others: at the default hop, windows that share no sound."""

_TABLES = (
    """CREATE TABLE message (
    row_id INTEGER PRIMARY KEY AUTOINCREMENT,
    machine TEXT NOT NULL, leaf TEXT NOT NULL, seq INTEGER NOT NULL, retain INTEGER NOT NULL,
    spooled_s REAL NOT NULL, payload TEXT NOT NULL, drop_order INTEGER NOT NULL, checksum INTEGER NOT NULL
)""",
    "CREATE INDEX message_drop ON message (drop_order, row_id)",
    "CREATE TABLE last_seq (machine TEXT PRIMARY KEY, seq INTEGER NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE loss (
    machine TEXT NOT NULL, why TEXT NOT NULL, from_seq INTEGER, to_seq INTEGER NOT NULL, count INTEGER,
    checksum INTEGER NOT NULL, PRIMARY KEY (machine, why)
) WITHOUT ROWID""",
    "CREATE TABLE record (name TEXT PRIMARY KEY, value BLOB NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID",
)
_MESSAGE_FIELDS = "row_id, machine, leaf, seq, retain, spooled_s, payload"
# Text goes in as its bytes: altered, it may be no text any more.
_IS_ALTERED = {
    "message": "checksum IS NOT row_checksum("
    "row_id, CAST(machine AS BLOB), CAST(leaf AS BLOB), seq, retain, spooled_s, CAST(payload AS BLOB))",
    "last_seq": "checksum IS NOT row_checksum(CAST(machine AS BLOB), seq)",
    "loss": "checksum IS NOT row_checksum(CAST(machine AS BLOB), CAST(why AS BLOB), from_seq, to_seq, count)",
    "record": "checksum IS NOT row_checksum(CAST(name AS BLOB), value)",
}


class SpoolDamage(sqlite3.DatabaseError):
    """A row is not what was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One message as it lies in the spool; spooled_s is the spool's age when it came."""

    row_id: int
    machine: str
    leaf: Leaf
    seq: int
    retain: bool
    spooled_s: float
    payload: str

    @property
    def size_bytes(self) -> int:
        """What it counts against the spool's bound."""
        return len(self.payload.encode()) + ROW_OVERHEAD_BYTES

    @property
    def drop_order(self) -> int:
        """Lower goes first when the spool is full: scores thinned, then all scores, health, states, alarms."""
        if self.leaf == "score":
            return 0 if self.seq % KEPT_OF_SCORES else 1
        return {"health": 2, "state": 3, "alarm": 4}[self.leaf]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Numbers of a machine that will never come: `count` from first to last; None where nobody knows."""

    machine: str
    why: str
    first: int | None
    last: int
    count: int | None

    def joined(self, other: Loss) -> Loss:
        """Both in one; the machine and the cause are the same."""
        known = self.count is not None and other.count is not None
        return Loss(
            machine=self.machine,
            why=self.why,
            first=None if self.first is None or other.first is None else min(self.first, other.first),
            last=max(self.last, other.last),
            count=(self.count or 0) + (other.count or 0) if known else None,
        )


def teach(database: sqlite3.Connection) -> None:
    """Gives a connection the SQL function that all of these tables need."""
    database.create_function("row_checksum", -1, _checksum, deterministic=True)


def create(database: sqlite3.Connection, *, last_row_id: int) -> None:
    """Makes the tables, within the caller's transaction; row ids begin above `last_row_id`."""
    for statement in _TABLES:
        database.execute(statement)
    database.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('message', ?)", (last_row_id,))
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def damage_of(database: sqlite3.Connection) -> str | None:
    """What is wrong with the database, but for its messages, whose checksums are looked at as they are read.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version != SCHEMA_VERSION:
        return f"schema version {version}"
    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        return f"integrity {verdict}"
    there = database.execute("SELECT sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY rowid").fetchall()
    if [sql for (sql,) in there] != list(_TABLES):
        return "altered table definitions"
    for table in ("last_seq", "loss", "record"):
        if database.execute(f"SELECT 1 FROM {table} WHERE {_IS_ALTERED[table]} LIMIT 1").fetchone():  # noqa: S608 (ours)
            return f"an altered row in {table}"
    return None


def insert(database: sqlite3.Connection, row: Row) -> None:
    """Adds one message."""
    fields = (row.row_id, row.machine, row.leaf, row.seq, int(row.retain), row.spooled_s, row.payload)
    database.execute(
        f"INSERT INTO message ({_MESSAGE_FIELDS}, drop_order, checksum) "  # noqa: S608 (ours)
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*fields, row.drop_order, _checksum(*fields)),
    )


def skip_row_id(database: sqlite3.Connection, row_id: int) -> None:
    """Makes row ids go on above this one, which no message gets."""
    database.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'message'", (row_id,))


def rows(database: sqlite3.Connection, how: str, parameters: tuple[object, ...] = ()) -> Iterator[Row]:
    """The messages that a WHERE, ORDER BY or LIMIT of ours picks, one after the other.

    Raises:
        SpoolDamage: the next one is not what was written.
        sqlite3.Error: the database cannot be read.
    """
    query = f"SELECT {_MESSAGE_FIELDS}, {_IS_ALTERED['message']} FROM message {how}"  # noqa: S608 (ours)
    for *fields, altered in database.execute(query, parameters):
        if altered:
            raise SpoolDamage("an altered row in message")
        yield _row(fields)


def whole_rows(database: sqlite3.Connection, *, newest_first: bool) -> Iterator[Row]:
    """The messages that are what was written, until something cannot be read at all.

    Raises:
        sqlite3.Error: that is so.
    """
    for fields in database.execute(
        f"SELECT {_MESSAGE_FIELDS} FROM message WHERE NOT ({_IS_ALTERED['message']}) "  # noqa: S608 (ours)
        f"ORDER BY row_id {'DESC' if newest_first else 'ASC'}"
    ):
        yield _row(fields)


def _row(fields: Sequence[Any]) -> Row:
    row_id, machine, leaf, seq, retain, spooled_s, payload = fields
    return Row(
        row_id=row_id,
        machine=machine,
        leaf=leaf,
        seq=seq,
        retain=bool(retain),
        spooled_s=spooled_s,
        payload=payload,
    )


def totals(database: sqlite3.Connection) -> tuple[int, int, int]:
    """How many messages wait, how many bytes they count, and the row id of the newest ever committed."""
    messages, payload_bytes = database.execute(
        "SELECT count(*), coalesce(sum(length(CAST(payload AS BLOB))), 0) FROM message"
    ).fetchone()
    (last_row,) = database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'message'").fetchone()
    return messages, payload_bytes + messages * ROW_OVERHEAD_BYTES, last_row


def last_seqs(database: sqlite3.Connection) -> dict[str, int]:
    """The last number that each machine was given."""
    return dict(database.execute("SELECT machine, seq FROM last_seq").fetchall())


def store_last_seqs(database: sqlite3.Connection, seqs: Mapping[str, int]) -> None:
    """Replaces the last numbers of these machines."""
    database.executemany(
        "INSERT OR REPLACE INTO last_seq VALUES (?, ?, ?)",
        [(machine, seq, _checksum(machine, seq)) for machine, seq in seqs.items()],
    )


def stored_records(database: sqlite3.Connection) -> dict[str, bytes]:
    """What the next run has to know, by name; altered ones are left out."""
    return dict(
        database.execute(f"SELECT name, value FROM record WHERE NOT ({_IS_ALTERED['record']})").fetchall()  # noqa: S608
    )


def store_records(database: sqlite3.Connection, *, new: Mapping[str, bytes], stored: Mapping[str, bytes]) -> None:
    """Writes what differs from what is stored, and deletes what is gone."""
    for name, value in new.items():
        if stored.get(name) != value:
            database.execute("INSERT OR REPLACE INTO record VALUES (?, ?, ?)", (name, value, _checksum(name, value)))
    database.executemany("DELETE FROM record WHERE name = ?", [(name,) for name in stored.keys() - new.keys()])


def record_loss(database: sqlite3.Connection, loss: Loss) -> None:
    """Adds to the loss of that machine and cause that no health message has told yet."""
    for other in _losses(database, "WHERE machine = ? AND why = ?", (loss.machine, loss.why)):
        loss = other.joined(loss)
    fields = (loss.machine, loss.why, loss.first, loss.last, loss.count)
    database.execute("INSERT OR REPLACE INTO loss VALUES (?, ?, ?, ?, ?, ?)", (*fields, _checksum(*fields)))


def tell_losses(database: sqlite3.Connection, message: OutgoingMessage) -> str:
    """Moves all losses into the payload of a health message: once it is committed it alone knows them."""
    drops = [
        {"machine": loss.machine or None, "from": loss.first, "to": loss.last, "count": loss.count, "why": loss.why}
        for loss in _losses(database)
    ]
    database.execute("DELETE FROM loss")
    return body({**message.payload, "drops": drops})


def take_back_losses(database: sqlite3.Connection, health: Row) -> None:
    """Records anew what a health message told that is itself dropped."""
    for drop in json.loads(health.payload)["drops"]:
        loss = Loss(
            machine=drop["machine"] or DEVICE,
            why=drop["why"],
            first=drop["from"],
            last=drop["to"],
            count=drop["count"],
        )
        record_loss(database, loss)


def body(payload: Mapping[str, object]) -> str:
    """A payload as it is stored.

    Raises:
        ValueError: it is not JSON, for instance for a NaN.
    """
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _losses(database: sqlite3.Connection, how: str = "", parameters: tuple[object, ...] = ()) -> list[Loss]:
    losses = []
    for machine, why, first, last, count, altered in database.execute(
        f"SELECT machine, why, from_seq, to_seq, count, {_IS_ALTERED['loss']} FROM loss {how}",  # noqa: S608 (ours)
        parameters,
    ):
        if altered:
            raise SpoolDamage("an altered row in loss")
        losses.append(Loss(machine=machine, why=why, first=first, last=last, count=count))
    return losses


def _checksum(*fields: object) -> int:
    """CRC-32 of the fields with their types, text as its bytes."""
    plain = tuple(field.encode() if isinstance(field, str) else field for field in fields)
    return zlib.crc32(repr(plain).encode())

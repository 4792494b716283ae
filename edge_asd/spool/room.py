"""A spool that holds too much, or for too long, in; out of it what matters least, recorded as lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from edge_asd.spool.tables import KEPT_OF_SCORES, ROW_OVERHEAD_BYTES, Loss, Row, record_loss, rows, take_back_losses

FULL = "the message spool was full"
THINNED = f"the message spool was full, one score in {KEPT_OF_SCORES} kept"
TOO_OLD = "it waited longer than the spool allows"

_AGED_AT_ONCE = 500  # a commit must not take long; the next ones drop the rest


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """What was taken out of the spool."""

    messages: int = 0
    size_bytes: int = 0


def drop_until(database: sqlite3.Connection, *, excess_bytes: int, after: int, scores_alone: bool = False) -> Freed:
    """Drops until so many bytes are free: scores thinned, oldest first, then all scores, health, states, alarms.

    after: messages up to this row id are kept, for they may be under way: to tell of them as lost might be wrong.
    scores_alone: nothing but scores is dropped, even where they are too few.
    """
    if excess_bytes <= 0:
        return Freed()
    dropped = []
    for row in rows(database, "WHERE row_id > ? ORDER BY drop_order, row_id", (after,)):
        if scores_alone and row.leaf != "score":
            break
        dropped.append(row)
        excess_bytes -= row.size_bytes
        if excess_bytes <= 0:
            break
    return _drop(database, ((row, THINNED if row.drop_order == 0 else FULL) for row in dropped))


def drop_aged(database: sqlite3.Connection, *, before_s: float, after: int) -> Freed:
    """Drops what came before the spool was that old; ages grow with row ids, so a look at the oldest will do."""
    oldest = rows(database, "WHERE row_id > ? ORDER BY row_id LIMIT ?", (after, _AGED_AT_ONCE))
    aged = []
    for row in oldest:
        if row.spooled_s >= before_s:
            break
        aged.append(row)
    return _drop(database, ((row, TOO_OLD) for row in aged))


def remove(database: sqlite3.Connection, row_ids: Collection[int]) -> Freed:
    """Takes delivered messages out."""
    sizes = [
        payload_bytes + ROW_OVERHEAD_BYTES
        for row_id in row_ids
        for (payload_bytes,) in database.execute(
            "DELETE FROM message WHERE row_id = ? RETURNING length(CAST(payload AS BLOB))", (row_id,)
        ).fetchall()
    ]
    return Freed(messages=len(sizes), size_bytes=sum(sizes))


def _drop(database: sqlite3.Connection, doomed: Iterable[tuple[Row, str]]) -> Freed:
    freed_bytes = count = 0
    for row, why in doomed:
        record_loss(database, Loss(machine=row.machine, why=why, first=row.seq, last=row.seq, count=1))
        if row.leaf == "health":
            take_back_losses(database, row)
        database.execute("DELETE FROM message WHERE row_id = ?", (row.row_id,))
        freed_bytes += row.size_bytes
        count += 1
    return Freed(messages=count, size_bytes=freed_bytes)

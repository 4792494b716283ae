"""Spooled messages and the broker's acknowledgements in, what is to be deleted from the spool out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from edge_asd.types import SpooledMessage

_DELETED_AT_ONCE = 128
"""Acknowledged messages that are deleted together while more go out; a crash before that repeats them."""


class Spool(Protocol):
    """What the publisher needs of the outbox."""

    def pending(self, *, limit: int, after: int) -> Sequence[SpooledMessage]:
        """The oldest messages above a row id."""

    def delete(self, row_ids: Collection[int]) -> None:
        """Forgets acknowledged messages."""

    def last_row_id(self) -> int:
        """The newest message's row id."""


class UnderWay:
    """What was sent over a connection, until it is acknowledged and deleted from the spool, many at once."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._row_ids: dict[int, int] = {}  # by packet id
        self._delivered: list[int] = []

    @property
    def waiting(self) -> int:
        """How many are not acknowledged."""
        return len(self._row_ids)

    def sent(self, packet_id: int, row_id: int) -> None:
        """A message went out."""
        self._row_ids[packet_id] = row_id

    def acknowledged(self, packet_ids: Sequence[int]) -> int:
        """The broker took these packets; returns how many were messages of the spool."""
        row_ids = [self._row_ids.pop(packet_id) for packet_id in packet_ids if packet_id in self._row_ids]
        self._delivered += row_ids
        if len(self._delivered) >= _DELETED_AT_ONCE:
            self.delete()
        return len(row_ids)

    def delete(self) -> None:
        """Takes the acknowledged ones out of the spool."""
        if self._delivered:
            self._spool.delete(self._delivered)
            self._delivered = []

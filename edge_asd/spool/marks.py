"""Numbers in, numbers that survive a spool in ruins out: two small files beside the database."""

from __future__ import annotations

import logging
import os
import struct
import zlib
from pathlib import Path

LOG = logging.getLogger(__name__)

_RESERVATION = 100_000
_MARK = struct.Struct(">QQI")  # two row ids, CRC-32 of them
_CHECKSUM_BYTES = 4


class Ceiling:
    """A number above all sequence numbers ever given out; it is raised in large steps, so seldom written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.value = _read_ceiling(path)

    def reserve(self, seq: int) -> None:
        """Makes sure that the ceiling on disk is not below `seq`.

        Raises:
            OSError: the disk refused it.
        """
        if seq > self.value:
            _write_ceiling(self._path, seq + _RESERVATION)
            self.value = seq + _RESERVATION


class Mark:
    """The row ids of the last commit and of the last message that was offered, written without waiting for the disk.

    A database that ends below the first has lost commits: a write-ahead log that was altered is cut short by SQLite,
    and the database is then sound, and old. What was offered may have arrived, also in a run before. After a power cut
    both may be too low, which harms little.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self.row_id = self.offered_row_id = 0
        stored = os.pread(self._file, _MARK.size, 0)
        row_id, offered_row_id, checksum = _MARK.unpack(stored.ljust(_MARK.size, b"\0"))
        if not stored:
            self._write()  # takes its place on the disk while there is some
        elif checksum == zlib.crc32(stored[:-_CHECKSUM_BYTES]):
            self.row_id, self.offered_row_id = row_id, offered_row_id
        else:
            LOG.warning("%s is damaged; it is made anew", path)

    def note(self, *, row_id: int, offered_row_id: int) -> None:
        """Remembers both, where one is new.

        Raises:
            OSError: the disk refused it.
        """
        if (row_id, offered_row_id) != (self.row_id, self.offered_row_id):
            self.row_id, self.offered_row_id = row_id, offered_row_id
            self._write()

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)

    def _write(self) -> None:
        packed = _MARK.pack(self.row_id, self.offered_row_id, 0)[:-_CHECKSUM_BYTES]
        os.pwrite(self._file, packed + zlib.crc32(packed).to_bytes(_CHECKSUM_BYTES, "big"), 0)


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

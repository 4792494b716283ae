"""Decoded clips in, one file of samples by their content out, with a journal from which a cut-off run goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import cast

from edge_asd.errors import EdgeAsdError, TemporaryError, UsageError
from train.data.decode import Decoded, Fault
from train.data.prepared import SAMPLES_DTYPE, SAMPLES_NAME, Stat

JOURNAL_NAME = "journal.jsonl"
_SCHEMA = 3
_OUTDATED_SCHEMAS = (1, 2)
"""Entries of the first lack a time, and of the second all clips that are shorter than a window count as unusable."""
_SYNC_EVERY = 64
"""Clips between two syncs: samples first, then the journal, so that the journal never knows more than there is."""

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What became of one file, and where its samples stand: those of clips with equal samples stand once."""

    file: str
    stat: Stat
    digest: str
    start: int
    n_samples: int
    clipped: int
    fault: Fault
    detail: str


class Store:
    """Samples of clips, appended in whatever order they come; safe to use from several threads.

    What an earlier run wrote is held against its digest before it is used again; what differs is left where it is.
    """

    def __init__(self, samples: FileIO, journal: FileIO, stored: dict[str, Stored], folder: Path) -> None:
        self._samples = samples
        self._journal = journal
        self._stored = stored
        self._folder = folder
        # Of a clip that was read anew because its samples were damaged, the last place counts.
        by_start = sorted(stored.values(), key=lambda entry: entry.start)
        self._place = {entry.digest: (entry.start, entry.n_samples) for entry in by_start if entry.digest}
        self._whole: set[str] = set()
        self.total_samples = max((start + n_samples for start, n_samples in self._place.values()), default=0)
        self.n_damaged = 0
        """Files that were not found for the samples that stood in their place."""
        self._pending: list[Stored] = []
        self._lock = threading.Lock()

    def find(self, file: str, stat: Stat) -> Stored | None:
        """What became of this file earlier, if it has not changed since and its samples are still what they were."""
        entry = self._stored.get(file)
        if entry is None or entry.stat != stat:
            return None
        if entry.fault:
            return entry
        with self._lock:
            place = self._whole_place(entry.digest)
        if place is None:
            self.n_damaged += 1
            return None
        return dataclasses.replace(entry, start=place[0], n_samples=place[1])

    def add(self, clip: Decoded) -> Stored:
        """Keep a clip.

        Raises:
            EdgeAsdError: the disk is full or fails; what was kept before stays.
        """
        with self._lock, explained(self._folder):
            start, n_samples = self._whole_place(clip.digest) or (self.total_samples, 0)
            if not clip.fault and not n_samples:
                n_samples = len(clip.samples) // SAMPLES_DTYPE.itemsize
                self._append(clip.samples)
                self._place[clip.digest] = (start, n_samples)
                self._whole.add(clip.digest)
                self.total_samples += n_samples
            entry = Stored(
                file=clip.file,
                stat=clip.stat,
                digest=clip.digest,
                start=start,
                n_samples=n_samples,
                clipped=clip.clipped,
                fault=clip.fault,
                detail=clip.detail,
            )
            # What was broken may be mended without a trace in its size and time, as by other permissions.
            if clip.fault != "broken":
                self._stored[clip.file] = entry
                self._pending.append(entry)
            if len(self._pending) >= _SYNC_EVERY:
                self._sync()
            return entry

    def sync(self) -> None:
        """Make all that was added safe against a power cut.

        Raises:
            EdgeAsdError: the disk is full or fails.
        """
        with self._lock, explained(self._folder):
            self._sync()

    def _sync(self) -> None:
        os.fsync(self._samples.fileno())
        _write(self._journal, b"".join(_line(entry) for entry in self._pending))
        self._pending = []
        os.fsync(self._journal.fileno())

    def _whole_place(self, digest: str) -> tuple[int, int] | None:
        """Where these samples stand; what an earlier run wrote is read once, as a disk may have lost or altered it."""
        place = self._place.get(digest)
        if place is None or digest in self._whole:
            return place
        if _digest(self._samples, *place) != digest:
            del self._place[digest]
            return None
        self._whole.add(digest)
        return place

    def _append(self, samples: bytearray) -> None:
        try:
            _write(self._samples, samples)
        except OSError:
            # Another thread may still find room for a smaller clip, which must stand where its entry says.
            self._samples.truncate(self.total_samples * SAMPLES_DTYPE.itemsize)
            raise


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Say of a failure to write to a prepared folder what to do.

    Raises:
        EdgeAsdError: in place of the OSError.
    """
    try:
        yield
    except OSError as error:
        raise EdgeAsdError(
            f"{folder}: samples cannot be written: {error.strerror}; what was written stays; make room there and run "
            "the same command again, it goes on"
        ) from error


@contextlib.contextmanager
def open_store(folder: Path, *, channel: int | None) -> Iterator[Store]:
    """Open the store of a folder for writing, alone, as it was left.

    Raises:
        UsageError: it was made of another channel, or its journal is not one.
        TemporaryError: another process writes to it.
        EdgeAsdError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        journal = (folder / JOURNAL_NAME).open("a+b", buffering=0)
        samples = (folder / SAMPLES_NAME).open("a+b", buffering=0)
    except OSError as error:
        raise EdgeAsdError(f"{folder}: cannot be written: {error.strerror}; give another --out") from error
    with journal, samples:
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TemporaryError(
                f"{folder}: another train.prepare is writing to it; wait until it has ended"
            ) from error
        with explained(folder):
            stored = _read_journal(folder, journal, samples, channel)
            store = Store(samples, journal, stored, folder)
            samples.truncate(store.total_samples * SAMPLES_DTYPE.itemsize)
        try:
            yield store
        finally:
            store.sync()


def _read_journal(folder: Path, journal: FileIO, samples: FileIO, channel: int | None) -> dict[str, Stored]:
    """Read what is whole, cut off what is not."""
    head = {"schema": _SCHEMA, "channel": channel}
    journal.seek(0)
    lines = journal.readall().splitlines(keepends=True)
    found: object = None
    if lines and lines[0].endswith(b"\n"):
        try:
            found = json.loads(lines[0])
        except ValueError as error:
            raise UsageError(f"{folder / JOURNAL_NAME}: not a journal ({error}); remove {folder}") from error
    if found is None or found in [{**head, "schema": schema} for schema in _OUTDATED_SCHEMAS]:  # all is read again
        journal.truncate(0)
        _write(journal, json.dumps(head).encode() + b"\n")
        return {}
    if found != head:
        raise UsageError(f"{folder}: was prepared with {found}; expected {head}; remove it or give another --out")
    n_there = samples.seek(0, os.SEEK_END) // SAMPLES_DTYPE.itemsize
    stored: dict[str, Stored] = {}
    n_bytes = len(lines[0])
    for line in lines[1:]:
        entry = _entry(line)
        if entry is None or entry.start + entry.n_samples > n_there:
            break
        stored[entry.file] = entry
        n_bytes += len(line)
    journal.truncate(n_bytes)
    return stored


def _digest(samples: FileIO, start: int, n_samples: int) -> str:
    """The sha256 of samples in hex, as decode_clip gives it; of as many as the disk still gives."""
    digest = hashlib.sha256()
    place, end = (SAMPLES_DTYPE.itemsize * count for count in (start, start + n_samples))
    with contextlib.suppress(OSError):  # a sector that cannot be read any more: what it held is lost, not the rest
        while place < end and (chunk := os.pread(samples.fileno(), min(_CHUNK_BYTES, end - place), place)):
            digest.update(chunk)
            place += len(chunk)
    return digest.hexdigest()


def _write(file: FileIO, content: bytes | bytearray) -> None:
    """Write all of it: a disk that is nearly full takes a part without a word."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def _line(entry: Stored) -> bytes:
    fields = [
        entry.file,
        entry.stat,
        entry.digest,
        entry.start,
        entry.n_samples,
        entry.clipped,
        entry.fault,
        entry.detail,
    ]
    return json.dumps(fields).encode() + b"\n"


def _entry(line: bytes) -> Stored | None:
    if not line.endswith(b"\n"):
        return None
    try:
        file, stat, digest, start, n_samples, clipped, fault, detail = json.loads(line)
    except ValueError:
        return None
    return Stored(
        file=file,
        stat=cast("Stat", tuple(stat)),
        digest=digest,
        start=start,
        n_samples=n_samples,
        clipped=clipped,
        fault=cast("Fault", fault),
        detail=detail,
    )

"""A folder of installed models: changes of their record in, the record and their files out, whole at every moment."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from pydantic import ValidationError

from edge_asd.bundle.archive import write_durably
from edge_asd.bundle.slots import Record, Slot, number_of
from edge_asd.errors import BundleError, TemporaryError, UnavailableError

LOG = logging.getLogger(__name__)

_RECORD = "slots.json"
_DAMAGED = "slots.json.damaged"
_SEAL = "sha256:"
_MAX_RECORD_BYTES = 256 * 1024
_MODEL_FILE = re.compile(r"^model-[1-9][0-9]{0,8}\.asd$")


class SlotFolder:
    """The installed models of a device: two at most, and a record of which serves and why.

    Files are never written over: a model has a name of its own and is there whole before the record names it, and the
    record is exchanged whole. Whatever ends a process leaves the record before or the one after, each with its files.

    Args:
        folder: is made with the first install.
        describe: opens a model's file and says what it holds, for a record that has to be made again.
        now: of UTC.
    """

    def __init__(
        self,
        folder: Path,
        *,
        describe: Callable[[Path], Slot],
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self.folder = folder
        self._describe = describe
        self._now = now

    def path(self, slot: Slot) -> Path:
        """Where that model lies."""
        return self.folder / slot.file

    def now(self) -> datetime:
        """The time, in UTC."""
        return self._now()

    def read(self) -> Record:
        """The record as it is now; an empty one where nothing was installed yet.

        A damaged record is set aside and made again from the files: the one installed first serves, since it served
        before or is the only one, and the other is not taken without being installed again.

        Raises:
            UnavailableError: the folder cannot be read or written.
        """
        with self._os_errors():
            try:
                return _record_from_bytes(self._record_bytes())
            except FileNotFoundError:
                return Record()
            except _DamagedError:
                with self._locked():
                    return self._read_locked()

    def change(self, how: Callable[[Record], Record]) -> Record:
        """Exchange the record for what `how` makes of it, durably; no other process changes it meanwhile.

        Raises:
            UnavailableError: the folder cannot be read or written; the record is as it was.
        """
        with self._os_errors():
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._locked():
                before = self._read_locked()
                after = how(before)
                if after != before:
                    write_durably(self.folder / _RECORD, _bytes_from_record(after))
                return after

    def change_if_possible(self, how: Callable[[Record], Record]) -> Record | None:
        """The same for a daemon that must go on: None, with a warning, where the disk refuses."""
        try:
            return self.change(how)
        except UnavailableError as error:
            LOG.warning("what becomes of the models cannot be kept: %s", error)
            return None

    @contextmanager
    def staged(self, data: bytes) -> Iterator[Path]:
        """A new model's file, durable but in no record yet; whatever no record names is removed in the end.

        Raises:
            TemporaryError: another process is installing.
            UnavailableError: the folder cannot be written.
        """
        with self._os_errors():
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "install.lock").open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise TemporaryError(
                    f"{self.folder}: another install is under way; expected one at a time; wait for it, and try again"
                ) from error
            self._sweep()
            with self._os_errors():
                numbers = [number_of(path.name) for path in self._model_files()]
                path = self.folder / f"model-{max([self.read().installs, *numbers]) + 1}.asd"
                write_durably(path, data)
            try:
                yield path
            finally:
                self._sweep()

    def _sweep(self) -> None:
        """Remove the files that the record does not name, what killed installs left among them."""
        with self._os_errors():
            named = {slot.file for slot in self.read().slots.values()}
            strays = [path for path in self._model_files() if path.name not in named]
            for path in [*strays, *self.folder.glob(".model-*.asd.*")]:
                path.unlink(missing_ok=True)

    def _model_files(self) -> list[Path]:
        return [path for path in self.folder.glob("model-*.asd") if _MODEL_FILE.match(path.name)]

    def _record_bytes(self) -> bytes:
        with (self.folder / _RECORD).open("rb") as stream:
            return stream.read(_MAX_RECORD_BYTES + 1)

    def _read_locked(self) -> Record:
        """The record, made again where it is damaged; the folder is locked."""
        try:
            return _record_from_bytes(self._record_bytes())
        except FileNotFoundError:
            return Record()
        except _DamagedError as error:
            return self._recovered(str(error))

    def _recovered(self, damage: str) -> Record:
        record = Record()
        for path in sorted(self._model_files(), key=lambda path: number_of(path.name)):
            try:
                slot = self._describe(path)
            except BundleError as error:
                LOG.warning("%s", error)
                continue
            if record.active is None:
                why = "the record of the slots was damaged; this model was installed before the other"
                record = Record(
                    installs=number_of(slot.file), active="a", slots={"a": slot.now("good", why, self._now())}
                )
            elif record.standby is None:
                why = "the record of the slots was damaged; install it again"
                record = Record(
                    installs=number_of(slot.file),
                    active="a",
                    slots={**record.slots, "b": slot.now("failed", why, self._now())},
                )
        LOG.error(
            "%s: %s; expected what edge-asd wrote; it is set aside as %s, and %s serves; look after the disk, and "
            "install the newest model again", self.folder / _RECORD, damage, _DAMAGED,
            f"{record.serving.name} {record.serving.version}" if record.serving else "no model",
        )  # fmt: skip
        try:
            (self.folder / _DAMAGED).write_bytes(self._record_bytes())
            write_durably(self.folder / _RECORD, _bytes_from_record(record))
        except OSError as error:  # it stays as it is, and is made again at the next look
            LOG.warning("%s: cannot be written (%s); make room", self.folder / _RECORD, error.strerror)
        return record

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # given back when it is closed, however the process ends
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _os_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnavailableError(
                f"{self.folder}: cannot be used ({error.strerror or error}); expected a folder that this user may read "
                "and write, with room for two models; run as the daemon's user, and make room where the disk is full"
            ) from error


class _DamagedError(Exception):
    """The record is not what was written there; the message says in what."""


def _bytes_from_record(record: Record) -> bytes:
    text = record.model_dump_json(indent=2).encode("utf-8") + b"\n"
    return text + f"{_SEAL}{hashlib.sha256(text).hexdigest()}\n".encode("ascii")


def _record_from_bytes(data: bytes) -> Record:
    text, _, _ = data.rpartition(_SEAL.encode("ascii"))
    if len(data) > _MAX_RECORD_BYTES or data[len(text) :] != f"{_SEAL}{hashlib.sha256(text).hexdigest()}\n".encode():
        raise _DamagedError("its bytes have another SHA-256 than its last line states")
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        raise _DamagedError(f"it holds what this edge-asd does not know ({error.errors()[0]['msg']})") from error

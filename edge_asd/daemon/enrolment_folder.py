"""What was asked for, collected and learned of one machine in, files of this device out, each whole or not at all."""

from __future__ import annotations

import fcntl
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from edge_asd.bundle import Encoder, Trust
from edge_asd.bundle.archive import write_durably
from edge_asd.bundle.extension import Extension, read_extension, write_extension
from edge_asd.bundle.signature import public_key, read_private_key, write_private_key
from edge_asd.daemon.enrolment_notes import Collecting, Recent, Request
from edge_asd.daemon.file_names import file_name
from edge_asd.errors import BundleError, TemporaryError, UnavailableError

_MAX_REQUEST_BYTES = 16_384
_TRY_EVERY_S = 0.2
_STRAY_S = 60.0

UNREADABLE = (-1, -1, -1)
"""Stamp of a file of which this user cannot even tell whether it is there."""


class EnrolmentFolder:
    """The files of one machine's enrolment, by the encoder that its vectors are of.

    A memory of another encoder (that of the model before, say) is left where it is: it serves again with its model.

    Args:
        state_dir: of the device.
        machine: its name.
        encoder: of the model that serves.
    """

    def __init__(self, state_dir: Path, machine: str, encoder: Encoder) -> None:
        self.machine = machine
        self.encoder = encoder
        self.folder = state_dir / "enrolled" / file_name(machine)
        self._key_path = state_dir / "enrolled" / "device.key"
        self._request_path = self.folder / "request.json"
        stem = encoder.sha256[:16]
        self.live_path = self.folder / f"live-{stem}.learned"
        self.collected_path = self.folder / f"collected-{stem}.learned"
        self._collecting_path = self.folder / "collecting.json"
        self._recent_path = self.folder / f"recent-{stem}.json"

    def live(self) -> Extension | None:
        """What serves; None where the machine is not enrolled with this encoder.

        Raises:
            BundleError: it cannot be trusted, or was altered.
            UnavailableError: this user may not read it, so that nobody can tell.
            UsageError: this device's key is none.
        """
        return self._read(self.live_path)

    def live_stamp(self) -> tuple[int, int, int] | None:
        """Another one whenever what serves was exchanged; None where there is none, UNREADABLE where it is hidden."""
        return _stamp(self.live_path)

    def collected_stamp(self) -> tuple[int, int, int] | None:
        """Another one whenever more of what was collected was written."""
        return _stamp(self.collected_path)

    def collected(self) -> Extension | None:
        """What was collected so far and is not calibrated, without what is to be forgotten of it.

        Raises:
            BundleError, UnavailableError, UsageError: as `live`.
        """
        found = self._read(self.collected_path)
        request = None if found is None else self.request()
        if found is None or request is None or found.facts.request != request.id:
            return found
        return found.with_memory(request.left_of(found.memory))

    def put(self, path: Path, extension: Extension) -> Extension:
        """Write one of the files, signed by this device; what was read back of it.

        Raises:
            BundleError: it would not be accepted.
            UnavailableError: the disk or the folder's rights refuse it.
        """
        with self._os_errors():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return write_extension(path, extension, self._key())

    def remove(self, path: Path) -> None:
        """Remove one of the files, if it is there.

        Raises:
            UnavailableError: the folder's rights refuse it.
        """
        with self._os_errors():
            path.unlink(missing_ok=True)

    def request(self) -> Request | None:
        """What is asked for now.

        Raises:
            BundleError: it cannot be read.
        """
        try:
            with self._request_path.open("rb") as stream:
                return Request.model_validate_json(stream.read(_MAX_REQUEST_BYTES))
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise BundleError(
                f"{self._request_path}: {error}; expected what edge-asd enroll wrote; run it again, or drop what was "
                "collected: --cancel"
            ) from error

    def ask(self, wanted_s: float) -> Request:
        """Ask the daemon for so much sound; one that is asked already goes on where it is.

        Raises:
            UnavailableError: the disk or the folder's rights refuse it.
        """
        try:
            before = self.request()
        except BundleError:
            before = None
        request = Request(
            id=before.id if before else secrets.token_hex(8),
            wanted_s=wanted_s,
            forgotten=before.forgotten if before else (),
        )
        self.change(request)
        return request

    def change(self, request: Request) -> None:
        """Ask for something else under the same id; the daemon goes on with what it has of it.

        Raises:
            UnavailableError: the disk or the folder's rights refuse it.
        """
        with self._os_errors():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(self._request_path, request.model_dump_json().encode())

    def ask_no_more(self) -> None:
        """End what was asked for; the daemon forgets what it holds of it.

        Raises:
            UnavailableError: the folder's rights refuse it.
        """
        self.remove(self._request_path)

    def drop_collected(self) -> None:
        """Ask for no more, and drop what was collected.

        Raises:
            UnavailableError: the folder's rights refuse it.
        """
        self.ask_no_more()
        self.remove(self.collected_path)
        self.remove(self._collecting_path)

    def collecting(self) -> Collecting | None:
        """How far the daemon is; None where it has not said so yet."""
        try:
            return Collecting.model_validate_json(self._collecting_path.read_bytes())
        except (OSError, ValidationError):  # it comes again within half a minute
            return None

    def collecting_stamp(self) -> tuple[int, int, int] | None:
        """Another one whenever the daemon said how far it is."""
        return _stamp(self._collecting_path)

    def tell_collecting(self, collecting: Collecting) -> None:
        """Say how far it is; of no use after a power cut, hence not forced onto the disk.

        Raises:
            OSError: the disk refused it.
        """
        path = self._collecting_path.with_suffix(".new")
        path.write_text(collecting.model_dump_json(), encoding="utf-8")
        path.replace(self._collecting_path)

    def recent(self) -> Recent | None:
        """What the daemon heard lately.

        Raises:
            BundleError: it cannot be read.
        """
        try:
            return Recent.model_validate_json(self._recent_path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise BundleError(
                f"{self._recent_path}: {error}; expected what the daemon wrote; remove it, it is written anew"
            ) from error

    def note_recent(self, recent: Recent) -> None:
        """Keep it for `edge-asd enroll --report`.

        Raises:
            OSError: the disk refused it.
        """
        write_durably(self._recent_path, recent.model_dump_json().encode())

    @contextmanager
    def locked(self, *, wait_s: float = 0.0) -> Iterator[None]:
        """Held by one `edge-asd enroll` of a machine at a time; what a kill within a write left behind is removed.

        Raises:
            TemporaryError: another one is at work, and still is after wait_s.
            UnavailableError: the folder cannot be used.
        """
        with self._os_errors():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("w")
        with lock:
            give_up_s = time.monotonic() + wait_s
            while not _is_locked(lock):  # given back when it is closed
                if time.monotonic() >= give_up_s:
                    raise TemporaryError(
                        f"{self.machine} is being enrolled by another process; expected one at a time; wait for it, "
                        "or end it"
                    )
                time.sleep(_TRY_EVERY_S)
            with self._os_errors():
                self._remove_strays()
            yield

    def _remove_strays(self) -> None:
        # The daemon writes beside the lock: what may be its own is a stray once no write takes so long.
        of_daemon = (".recent-", ".collected-") if self._request_path.exists() else (".recent-",)
        for stray in self.folder.glob(".*"):
            with suppress(FileNotFoundError):
                if not stray.name.startswith(of_daemon) or abs(time.time() - stray.stat().st_mtime) > _STRAY_S:
                    stray.unlink()

    def _read(self, path: Path) -> Extension | None:
        with self._os_errors():  # ahead of what reads them, to which a file that may not be read is a damaged one
            if not _is_there(path):
                return None
            has_key = _is_there(self._key_path) and _has_content(self._key_path)
        # Who reads makes no key: it might be one that the daemon may not read.
        keys = (public_key(read_private_key(self._key_path)),) if has_key else ()
        trust = Trust(public_keys=keys)
        return read_extension(path, machine=self.machine, encoder=self.encoder, trust=trust)

    def _key(self) -> Ed25519PrivateKey:
        """This device's own; it is made when it is first needed."""
        with self._os_errors():
            if not _has_content(self._key_path):
                self._make_key()
        return read_private_key(self._key_path)

    def _make_key(self) -> None:
        """Once, whoever else enrolls its first machine now; an empty file, of a power cut, is as good as none."""
        folder = self._key_path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (folder / "device.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # for as long as a key takes; given back when it is closed
            for stray in folder.glob(f".{self._key_path.name}.*"):
                stray.unlink()
            if not _has_content(self._key_path):
                self._key_path.unlink(missing_ok=True)
                write_private_key(self._key_path, Ed25519PrivateKey.generate())

    @contextmanager
    def _os_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnavailableError(
                f"{self.folder}: cannot be used ({error.strerror or error}); expected files that this user may read "
                "and write; run as the daemon's user, give it what another user wrote (chown -R), and make room where "
                "the disk is full"
            ) from error


def _is_there(path: Path) -> bool:
    """Whether there is such a file, which this user may read; else OSError."""
    try:
        path.open("rb").close()
    except FileNotFoundError:
        return False
    return True


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:  # whoever else makes it takes an empty one away first
        return False


def _is_locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError:  # who reads it is told why
        return UNREADABLE
    return found.st_ino, found.st_mtime_ns, found.st_size

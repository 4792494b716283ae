"""What was asked for, collected and learned of one machine in, files of this device out, each whole or not at all."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_asd.bundle import Encoder, Trust
from edge_asd.bundle.archive import write_durably
from edge_asd.bundle.extension import Extension, read_extension, write_extension
from edge_asd.bundle.signature import make_private_key, public_key, read_private_key
from edge_asd.daemon.file_names import file_name
from edge_asd.errors import BundleError, TemporaryError, UnavailableError

LOG = logging.getLogger(__name__)

_MAX_REQUEST_BYTES = 4_096
MAX_RECENT = 2_048
"""Scores of windows that do not overlap: 5.7 h."""

_Score = Annotated[float, Field(allow_inf_nan=False)]


class Request(BaseModel):
    """What `edge-asd enroll` asks of the daemon: so much normal sound, in s."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    wanted_s: float = Field(gt=0.0, le=86_400.0)


class Recent(BaseModel):
    """What the daemon heard of an enrolled machine lately.

    memory_sha256: of the memory that scored it. begin_utc_s, end_utc_s: of the sound.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    memory_sha256: str
    begin_utc_s: float
    end_utc_s: float
    scores: tuple[_Score, ...] = Field(min_length=1, max_length=MAX_RECENT)


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
        self._recent_path = self.folder / f"recent-{stem}.json"

    def live(self) -> Extension | None:
        """What serves; None where the machine is not enrolled with this encoder.

        Raises:
            BundleError: it cannot be trusted, or was altered.
        """
        return self._read(self.live_path)

    def live_stamp(self) -> tuple[int, int, int] | None:
        """Another one whenever what serves was exchanged; None where there is none."""
        try:
            found = self.live_path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def collected(self) -> Extension | None:
        """What was collected so far and is not calibrated.

        Raises:
            BundleError: it cannot be trusted, or was altered.
        """
        return self._read(self.collected_path)

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
        """What is asked for now; None, with a warning, where it cannot be read."""
        try:
            with self._request_path.open("rb") as stream:
                return Request.model_validate_json(stream.read(_MAX_REQUEST_BYTES))
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            LOG.warning("%s: %s; expected what edge-asd enroll wrote; it is ignored: enroll again", self._request_path,
                        error)  # fmt: skip
            return None

    def ask(self, wanted_s: float | None) -> None:
        """Ask the daemon for so much sound, or with None for no more.

        Raises:
            UnavailableError: the disk or the folder's rights refuse it.
        """
        with self._os_errors():
            if wanted_s is None:
                self._request_path.unlink(missing_ok=True)
                return
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(self._request_path, Request(wanted_s=wanted_s).model_dump_json().encode())

    def drop_collected(self) -> None:
        """Ask for no more, and drop what was collected.

        Raises:
            UnavailableError: the folder's rights refuse it.
        """
        self.ask(None)
        self.remove(self.collected_path)

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
    def locked(self) -> Iterator[None]:
        """Held by one `edge-asd enroll` of a machine at a time.

        Raises:
            TemporaryError: another one is at work.
            UnavailableError: the folder cannot be used.
        """
        with self._os_errors():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # given back when it is closed
            except BlockingIOError as error:
                raise TemporaryError(
                    f"{self.machine} is being enrolled by another process; expected one at a time; wait for it"
                ) from error
            yield

    def _read(self, path: Path) -> Extension | None:
        if not path.exists():
            return None
        trust = Trust(public_keys=(public_key(self._key()),))
        return read_extension(path, machine=self.machine, encoder=self.encoder, trust=trust)

    def _key(self) -> Ed25519PrivateKey:
        """This device's own; it is made when it is first needed."""
        if not self._key_path.exists():
            with self._os_errors():
                self._key_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            make_private_key(self._key_path)
        return read_private_key(self._key_path)

    @contextmanager
    def _os_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnavailableError(
                f"{self.folder}: cannot be used ({error.strerror or error}); expected a folder that this user may read "
                "and write; run as the daemon's user, and make room where the disk is full"
            ) from error

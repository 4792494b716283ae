"""What this device has built (engines, kernels, timings) in, the same bytes at a later start, or none, out."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, TextIO, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from edge_asd.bundle.archive import write_durably
from edge_asd.errors import UnavailableError
from edge_asd.json_fault import name_faults

LOG = logging.getLogger(__name__)

Kind: TypeAlias = Literal["engine", "kernel", "timing"]
Key: TypeAlias = Mapping[str, str]
"""All that the content depends on, in words."""

CheckStop: TypeAlias = Callable[[], None]
"""Is called while something takes minutes; what it raises ends that."""

MAX_FILES_A_KIND = 8
MAX_FILE_BYTES = 512 * 1024 * 1024
_MAGIC = b"edge-asd artifact 1\n"
_SEAL_BYTES = 32
_MAX_HEADER_BYTES = 64 * 1024
_WRITABLE_BY_OTHERS = 0o022
_LOOK_FOR_LOCK_EVERY_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One file of the store, verified.

    sha256: hex digest of the content alone. created_utc: ISO 8601.
    """

    path: Path
    kind: Kind
    key: Key
    created_utc: str
    sha256: str
    content: bytes


class _Header(BaseModel):
    """A file's first line after the magic; see Artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Kind
    key: dict[str, str]
    created_utc: str
    sha256: str


class DamagedError(Exception):
    """A file of the store is not what was written there; the message says in what."""


class Artifacts:
    """A folder of sealed files, named by the hash of their key; at most MAX_FILES_A_KIND of each kind.

    A file is there whole or not at all. One that is empty, altered or of another key counts as absent, with a warning:
    what it held is built again. So does all that lies in a folder which others may write to, for an engine is code of a
    kind.

    Args:
        folder: is made, for this user alone, when the first file is put there.
        check_stop: is called while another process is waited for, and by who builds what is to be kept there.
    """

    def __init__(self, folder: Path, *, check_stop: CheckStop = lambda: None) -> None:
        self.folder = folder
        self.check_stop = check_stop

    def path(self, kind: Kind, key: Key) -> Path:
        """Where the artifact of that key lies, or would."""
        digest = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode("utf-8")).hexdigest()
        return self.folder / f"{kind}-{digest[:24]}.bin"

    def get(self, kind: Kind, key: Key) -> bytes | None:
        """The content, or None where there is none that can be trusted."""
        path = self.path(kind, key)
        try:
            self._close_to_others()
            artifact = read_artifact(path)
        except FileNotFoundError:
            return None
        except (DamagedError, OSError) as error:
            LOG.warning("%s: %s; expected the %s that was put there; it is built again", path, error, kind)
            return None
        if (artifact.kind, dict(artifact.key)) != (kind, dict(key)):
            LOG.warning("%s: is a file of another key (%s); it is built again", path, dict(artifact.key))
            return None
        return artifact.content

    def put(self, kind: Kind, key: Key, content: bytes) -> Path | None:
        """Keep the content for later starts; None, with a warning, where the disk refuses.

        Beyond the bound the files that were written longest ago make room.
        """
        path = self.path(kind, key)
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        header = {"kind": kind, "key": dict(key), "created_utc": created, "sha256": hashlib.sha256(content).hexdigest()}
        body = _MAGIC + json.dumps(header, sort_keys=True).encode("utf-8") + b"\n" + content
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._close_to_others()
            write_durably(path, body + hashlib.sha256(body).digest())
            others = [other for other in self.folder.glob(f"{kind}-*.bin") if other != path]
            for oldest in sorted(others, key=_modified)[: max(0, len(others) + 1 - MAX_FILES_A_KIND)]:
                oldest.unlink(missing_ok=True)
        except OSError as error:
            LOG.warning("%s: cannot be kept (%s); it is built again at the next start; make room or give this user the "
                        "right to write there", path, error.strerror)  # fmt: skip
            return None
        return path

    def paths(self) -> tuple[Path, ...]:
        """All files of the store, whatever they hold."""
        return tuple(sorted(self.folder.glob("*-*.bin")))

    def unfinished(self) -> tuple[Path, ...]:
        """What a process left that was ended while it wrote."""
        return tuple(sorted(self.folder.glob(".*-*.bin.*")))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Held by one process at a time: two must not build the same; what ended processes left is swept away.

        Raises:
            UnavailableError: the folder cannot be used.
        """
        lock_path = self.folder / "lock"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._close_to_others()
            lock = lock_path.open("a+", encoding="ascii")
        except OSError as error:
            raise UnavailableError(
                f"{lock_path}: cannot be opened ({error.strerror}); expected a folder that this user may write to; "
                "correct state_dir or its rights"
            ) from error
        with lock:
            _lock(lock, lock_path, self.check_stop)  # given back when the file is closed, however the process ends
            for path in self.unfinished():
                path.unlink(missing_ok=True)
            yield

    def _close_to_others(self) -> None:
        """Where others may write, nothing is trusted: it is removed, and the folder is this user's alone from then on.

        Raises:
            OSError: the folder is not this user's to change.
        """
        try:
            mode = self.folder.stat().st_mode
        except FileNotFoundError:
            return
        if mode & _WRITABLE_BY_OTHERS:
            self.folder.chmod(0o700)
            for path in self.paths():
                if not path.is_dir():
                    path.unlink(missing_ok=True)
            LOG.warning("%s: was open to others (mode %o); expected 700, which it has now; what lay there is built "
                        "again", self.folder, mode & 0o777)  # fmt: skip


def _lock(lock: TextIO, path: Path, check_stop: CheckStop) -> None:
    """Wait until the lock is this process's; whose it is until then is told."""
    if not _is_locked(lock):
        lock.seek(0)
        holder = lock.read(20).strip() or "another process"
        LOG.warning("%s: waiting for %s, which builds or cleans there", path, holder)
        while not _is_locked(lock):
            check_stop()
            time.sleep(_LOOK_FOR_LOCK_EVERY_S)
    lock.truncate(0)
    lock.write(f"process {os.getpid()}")
    lock.flush()


def _is_locked(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_artifact(path: Path) -> Artifact:
    """Read and verify one file.

    Raises:
        DamagedError: it is not as it was written.
        OSError: it cannot be read.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise DamagedError(f"is larger than {MAX_FILE_BYTES} bytes")
    data = path.read_bytes()
    body, seal = data[:-_SEAL_BYTES], data[-_SEAL_BYTES:]
    if not body.startswith(_MAGIC):
        raise DamagedError("is empty" if not data else "does not begin as an artifact of this edge-asd does")
    if hashlib.sha256(body).digest() != seal:
        raise DamagedError("was altered or cut: its bytes have another SHA-256 than its seal")
    line, _, content = body[len(_MAGIC) :].partition(b"\n")
    try:
        header = _Header.model_validate_json(line[:_MAX_HEADER_BYTES])
    except ValidationError as error:
        raise DamagedError(f"has a header that is not understood ({name_faults(error)})") from error
    if hashlib.sha256(content).hexdigest() != header.sha256:
        raise DamagedError("has a header that tells another SHA-256 than that of its content")
    return Artifact(path=path, content=content, **header.model_dump())


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0

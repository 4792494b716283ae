"""The zip around a bundle: named contents in, one sealed file out, and back with every bound checked first."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edge_asd.errors import BundleError

MAX_BUNDLE_BYTES = 64 * 1024 * 1024
MAX_ENTRIES = 16
MAX_DIRECTORY_BYTES = 16 * 1024
MAX_UNPACKED_BYTES = 128 * 1024 * 1024

_SEAL_PREFIX = b"sha256:"
_SEAL_BYTES = len(_SEAL_PREFIX) + 64
# End of central directory, APPNOTE.TXT 4.3.16: signature, this disk, directory's disk, entries here, entries, directory
# size, directory offset, comment length.
_END = struct.Struct("<4sHHHHIIH")
_END_SIGNATURE = b"PK\x05\x06"
_ZIP64_LOCATOR = b"PK\x06\x07"
_ZIP64_LOCATOR_BYTES = 20
UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, EOFError, OSError, ValueError, OverflowError)
"""What zipfile raises for malformed archives; NotImplementedError and "encrypted" are RuntimeErrors."""


class Archive:
    """A sealed zip in memory whose seal, end record and directory have been checked; contents are read on demand.

    Raises:
        BundleError: the seal does not fit the bytes, or the zip is malformed or beyond the bounds.
    """

    def __init__(self, data: bytes, *, where: str) -> None:
        self._where = where
        _check_seal(data, where)
        _check_end_record(data, where)
        with self._readable():
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        self._infos = {info.orig_filename: info for info in self._zip.infolist()}
        if len(self._infos) != len(self._zip.infolist()):
            raise BundleError(f"{where}: the archive holds a name twice; expected each file once; export it again")
        unpacked_bytes = sum(info.file_size for info in self._infos.values())
        if unpacked_bytes > MAX_UNPACKED_BYTES:
            raise BundleError(
                f"{where}: the archive unpacks to {unpacked_bytes} bytes; expected at most {MAX_UNPACKED_BYTES}; "
                "this is not a bundle to trust: get it again from its source"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The names as they stand in the archive, paths and all."""
        return tuple(self._infos)

    def size_bytes(self, name: str) -> int:
        """Size of a content, as its entry states it; no more than that is ever read."""
        return self._infos[name].file_size

    def read(self, name: str, *, limit_bytes: int) -> bytes:
        """The content of one file.

        Raises:
            BundleError: it is absent, larger than the limit, encrypted, packed by another method, or damaged.
        """
        if name not in self._infos:
            raise BundleError(
                f"{self._where}: {name} is missing; the archive holds {', '.join(self.names) or 'nothing'}; "
                "copy the bundle again or export it again"
            )
        info = self._infos[name]
        if info.file_size > limit_bytes:
            raise BundleError(
                f"{self._where}: {name} unpacks to {info.file_size} bytes; expected at most {limit_bytes}; "
                "this is not a bundle to trust: get it again from its source"
            )
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BundleError(
                f"{self._where}: {name} is packed by method {info.compress_type}; expected stored (0) or deflated (8); "
                "export it again"
            )
        with self._readable(), self._zip.open(info) as stream:
            return stream.read(info.file_size)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except UNREADABLE as error:
            raise BundleError(
                f"{self._where}: the archive cannot be read ({error}); expected the zip that the exporter wrote; "
                "copy the bundle again or export it again"
            ) from error


def read_sealed(path: Path) -> bytes:
    """All bytes of a bundle file.

    Raises:
        BundleError: it is absent, no regular file, or too large.
    """
    try:
        if not path.is_file():
            found = "is not a file" if path.exists() else "does not exist"
            raise BundleError(f"{path}: {found}; expected a model bundle (NAME-VERSION.asd); give the path of one")
        with path.open("rb") as stream:
            data = stream.read(MAX_BUNDLE_BYTES + 1)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); give this user the right to read it") from error
    if len(data) > MAX_BUNDLE_BYTES:
        raise BundleError(
            f"{path}: is larger than {MAX_BUNDLE_BYTES} bytes, the most that a bundle may have; expected a model "
            "bundle (NAME-VERSION.asd); give the path of one"
        )
    return data


def sealed_zip(files: Mapping[str, bytes]) -> bytes:
    """Pack `files` in their order; the same bytes for the same contents, whatever the time or the user.

    The archive comment, the last bytes of the file, holds the SHA-256 of all bytes ahead of it.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3  # Unix, on every system: the bytes must not depend on it
            info.external_attr = 0o100644 << 16
            archive.writestr(info, content)
        # Placeholder: the comment's length stands ahead of the comment, inside the hashed bytes.
        archive.comment = _SEAL_PREFIX + bytes(64)
    data = buffer.getvalue()[:-_SEAL_BYTES]
    return data + _seal(data)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, whenever the power fails."""
    descriptor, temporary_name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(temporary_name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _seal(data: bytes) -> bytes:
    return _SEAL_PREFIX + hashlib.sha256(data).hexdigest().encode("ascii")


def _check_seal(data: bytes, where: str) -> None:
    body, seal = data[:-_SEAL_BYTES], data[-_SEAL_BYTES:]
    if not seal.startswith(_SEAL_PREFIX):
        raise BundleError(
            f"{where}: {len(data)} bytes that do not end in the bundle's seal; expected a zip whose comment is "
            "sha256:<64 hex digits>; the file is truncated or no bundle: copy it again"
        )
    if seal != _seal(body):
        raise BundleError(
            f"{where}: its bytes have another SHA-256 than its seal states; "
            f"expected {seal.decode('ascii', 'replace')}, found {_seal(body).decode('ascii')}; the file was altered or "
            "damaged: copy it again from its source"
        )


def _check_end_record(data: bytes, where: str) -> None:
    """What zipfile would trust: one directory of bounded size that ends where the end record begins."""
    start = len(data) - _SEAL_BYTES - _END.size
    if start < 0 or data[start : start + 4] != _END_SIGNATURE:
        raise BundleError(f"{where}: no zip directory ahead of its seal; expected a model bundle; export it again")
    _, disk, first_disk, entries_here, entries, size, offset, comment = _END.unpack_from(data, start)
    sound = (disk, first_disk, comment) == (0, 0, _SEAL_BYTES) and entries_here == entries and offset + size == start
    if not sound or data[max(0, start - _ZIP64_LOCATOR_BYTES) :].startswith(_ZIP64_LOCATOR):
        raise BundleError(
            f"{where}: the zip's end record does not fit its bytes; expected one plain zip without a preamble and "
            "without zip64; export it again"
        )
    if entries > MAX_ENTRIES or size > MAX_DIRECTORY_BYTES:
        raise BundleError(
            f"{where}: the archive lists {entries} files in a directory of {size} bytes; expected at most "
            f"{MAX_ENTRIES} in {MAX_DIRECTORY_BYTES}; this is not a bundle to trust: get it again from its source"
        )

"""A file of a Zenodo record in, the same file on disk out: resumed after a cut, given up on only without progress."""

from __future__ import annotations

import hashlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from edge_asd.errors import EdgeAsdError, UnavailableError

_CHUNK_BYTES = 1 << 20
_MAX_TRIES = 8
"""In a row without a byte of progress; then the server is taken to be away."""
_FINAL = (400, 401, 403, 404, 410, 451)
_TRY_AGAIN = (OSError, http.client.HTTPException)  # cuts, stalls, refusals, short answers

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file of a record: its name, where it is, its size and its md5 in hex, all as the record has them."""

    name: str
    url: str
    size_bytes: int
    md5: str


def list_record(
    api: str, record: str, *, say: Callable[[str], None], sleep: Callable[[float], None], timeout_s: float
) -> tuple[RemoteFile, ...]:
    """Ask the server for the files of a record; `say` is told of every try that failed.

    Source: https://developers.zenodo.org (records; a file's checksum is "md5:" and the hex digest).

    Raises:
        UnavailableError: the server is not there or does not know the record.
        EdgeAsdError: its answer is not as expected.
    """
    url = f"{api}/records/{record}"

    def ask() -> bytes:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:  # noqa: S310 - the scheme is the caller's
            return bytes(answer.read())

    content = _tried(ask, url, sleep, say=say)
    try:
        files = tuple(
            RemoteFile(
                name=PurePosixPath(entry["key"]).name,
                url=entry["links"]["self"],
                size_bytes=int(entry["size"]),
                md5=_md5(entry["checksum"]),
            )
            for entry in json.loads(content)["files"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise EdgeAsdError(
            f"{url}: its answer does not list files with key, size, checksum (md5:...) and links.self ({error!r}); "
            "expected Zenodo's interface; check --api"
        ) from error
    return tuple(sorted(files, key=lambda file: file.name))


def _md5(checksum: str) -> str:
    kind, _, digest = checksum.partition(":")
    if kind != "md5" or len(digest) != 32:
        raise ValueError(f"checksum {checksum!r}")
    return digest.lower()


def fetch(
    file: RemoteFile,
    path: Path,
    *,
    say: Callable[[str], None],
    progress: Callable[[int], None],
    sleep: Callable[[float], None],
    stall_s: float,
) -> None:
    """Fetch a file to `path`; until it is whole and verified it is called `path`.part, from which a later call goes on.

    Args:
        file: what to fetch.
        path: where to.
        say: is told of cuts and damage.
        progress: is told how many bytes are there.
        sleep: waits between two tries.
        stall_s: how long the server may send nothing.

    Raises:
        UnavailableError: no progress in many tries.
        EdgeAsdError: the content is wrong twice, or the disk is full or not writable.
    """
    if path.exists() and path.stat().st_size == file.size_bytes and _digest(path) == file.md5:
        progress(file.size_bytes)
        return
    part = path.with_name(f"{path.name}.part")
    for second in (False, True):
        _complete(file, part, say=say, progress=progress, sleep=sleep, stall_s=stall_s)
        found = _digest(part)
        if found == file.md5:
            part.replace(path)
            return
        part.unlink()
        say(f"{file.name}: md5 {found}; expected {file.md5}{'' if second else '; fetching it again from the start'}")
    raise EdgeAsdError(
        f"{file.url}: arrived damaged twice (md5 {found}; expected {file.md5}); nothing was unpacked; try again later, "
        "or another network"
    )


def _complete(
    file: RemoteFile,
    part: Path,
    *,
    say: Callable[[str], None],
    progress: Callable[[int], None],
    sleep: Callable[[float], None],
    stall_s: float,
) -> None:
    """Append to the part until it has its size."""

    def go_on() -> None:
        done = _size(part)
        if done > file.size_bytes:  # another version's
            part.unlink()
            done = 0
        if done < file.size_bytes:
            _append(file, part, done, progress=progress, stall_s=stall_s)

    while _size(part) != file.size_bytes:
        _tried(go_on, file.url, sleep, progress=lambda: _size(part), say=say)
    progress(file.size_bytes)


def _append(file: RemoteFile, part: Path, done: int, *, progress: Callable[[int], None], stall_s: float) -> None:
    request = urllib.request.Request(file.url, headers={"Range": f"bytes={done}-"} if done else {})  # noqa: S310 - as listed
    with urllib.request.urlopen(request, timeout=stall_s) as answer:  # noqa: S310 - as listed by the record
        if done and not _goes_on(answer, done):
            done = 0  # a server that knows no ranges sends it whole
        try:
            output = part.open("ab" if done else "wb")
        except OSError as error:
            raise EdgeAsdError(
                f"{part}: cannot be written: {error.strerror}; make room or give another --out"
            ) from error
        with output:
            while done < file.size_bytes and (chunk := answer.read1(_CHUNK_BYTES)):
                chunk = chunk[: file.size_bytes - done]
                try:
                    output.write(chunk)
                    output.flush()
                except OSError as error:
                    raise EdgeAsdError(
                        f"{part}: cannot be written: {error.strerror}; what has arrived stays; make room and run the "
                        "same command again"
                    ) from error
                done += len(chunk)
                progress(done)
    if done < file.size_bytes:
        raise http.client.IncompleteRead(b"", file.size_bytes - done)


def _goes_on(answer: http.client.HTTPResponse, done: int) -> bool:
    return answer.status == 206 and str(answer.headers.get("Content-Range", "")).startswith(f"bytes {done}-")


def _tried(
    act: Callable[[], _T],
    url: str,
    sleep: Callable[[float], None],
    *,
    progress: Callable[[], int] = lambda: 0,
    say: Callable[[str], None] = lambda _line: None,
) -> _T:
    """Act until it succeeds; tries after which there is progress do not count."""
    failures, reached = 0, progress()
    while True:
        try:
            return act()
        except EdgeAsdError:
            raise
        except _TRY_AGAIN as error:
            if isinstance(error, urllib.error.HTTPError) and error.code in _FINAL:
                raise UnavailableError(
                    f"{url}: the server says {error.code} {error.reason}; check the address"
                ) from error
            if progress() > reached:
                failures, reached = 0, progress()
            failures += 1
            if failures >= _MAX_TRIES:
                raise UnavailableError(
                    f"{url}: no progress in {failures} tries, lately: {_words(error)}; expected the server to answer; "
                    "check the network and run the same command again, it goes on"
                ) from error
            wait_s = max(min(60.0, 2.0**failures), _asked_to_wait_s(error))
            say(f"{url}: {_words(error)}; trying again in {wait_s:g} s")
            sleep(wait_s)


def _asked_to_wait_s(error: BaseException) -> float:
    """What a server that limits requests asks for, at most ten minutes."""
    asked = str(error.headers.get("Retry-After", "")) if isinstance(error, urllib.error.HTTPError) else ""
    return min(600.0, float(asked)) if asked.isdecimal() else 0.0


def _words(error: BaseException) -> str:
    return "the connection was cut" if isinstance(error, http.client.IncompleteRead) else str(error) or repr(error)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _digest(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()

"""The name of a public data set in, its official archives fetched, verified and unpacked into a data folder out."""

from __future__ import annotations

import argparse
import functools
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from edge_asd.bundle.archive import UNREADABLE
from edge_asd.errors import EdgeAsdError, UnavailableError, UsageError
from train.fetch import RemoteFile, fetch, list_record

ZENODO_API = "https://zenodo.org/api"

DATASETS = {
    # Development, additional training, evaluation, and the evaluation's labels (eval_data_list.csv).
    "dcase2020": ("3678171", "3727685", "3841772", "3951620"),
}
"""Records of Zenodo by data set. Names, sizes and checksums of their files come from the record itself."""

_MARKS = ".downloaded"
_UNPACKED_PER_PACKED = 1.5
"""At most, of 16-bit machine sound in a zip archive; exact once an archive is there."""
_SPARE_BYTES = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Where news goes: say a line; progress: a file's name, its size in bytes, and how many are there."""

    say: Callable[[str], None]
    progress: Callable[[str, int, int], None]


def download(
    dataset: str,
    out: Path,
    *,
    told: Told,
    api: str = ZENODO_API,
    sleep: Callable[[float], None] = time.sleep,
    stall_s: float = 60.0,
) -> None:
    """Fetch, verify and unpack one archive after the other; what is done already is not done again.

    Args:
        dataset: one of DATASETS.
        out: data folder; archives lie in it only until they are unpacked.
        told: where news goes.
        api: Zenodo's, or that of a server that mirrors it.
        sleep: waits between two tries.
        stall_s: how long a server may send nothing.

    Raises:
        UsageError: api is no address of the web, or `out` cannot be written.
        UnavailableError: the server is not there, or goes away again and again.
        EdgeAsdError: an archive is damaged at its source, or the disk is too small or not writable.
    """
    if not api.startswith(("https://", "http://")):
        raise UsageError(f"--api is {api}; expected an address that begins with https:// or http://")
    files = [
        file
        for record in DATASETS[dataset]
        for file in list_record(api, record, say=told.say, sleep=sleep, timeout_s=stall_s)
    ]
    marks = out / _MARKS
    try:
        marks.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: cannot be written: {error.strerror}; expected a writable folder") from error
    missing = [file for file in files if not _mark(marks, file).exists()]
    for file in set(files) - set(missing):
        if zipfile.is_zipfile(out / file.name):  # it was unpacked, and the run ended before it was removed
            (out / file.name).unlink()
    told.say(f"{len(files) - len(missing)} of {len(files)} files of {dataset} are there")
    _check_space(out, missing)
    for file in missing:
        path = out / file.name
        fetch(
            file,
            path,
            say=told.say,
            progress=functools.partial(told.progress, file.name, file.size_bytes),
            sleep=sleep,
            stall_s=stall_s,
        )
        is_archive = zipfile.is_zipfile(path)
        if is_archive:
            _unpack(path, out)
        elif path.suffix == ".zip":
            raise EdgeAsdError(f"{path}: not a zip archive, though its checksum is right; expected one; report it")
        _mark(marks, file).touch()
        if is_archive:
            path.unlink()  # after the mark: a run that is killed between them must not fetch it again


def _mark(marks: Path, file: RemoteFile) -> Path:
    return marks / f"{file.name}.{file.md5}"


def _check_space(out: Path, missing: Sequence[RemoteFile]) -> None:
    """Follow the disk through the run: what is there already counts as there, an unpacked archive is removed."""
    if not missing:
        return
    to_fetch, more, most = 0, 0, 0
    for file in missing:
        unpacked = _bytes_to_unpack(out, file)
        if unpacked is None:
            unpacked = round(file.size_bytes * _UNPACKED_PER_PACKED)
            fetched = max(0, file.size_bytes - _size(out / f"{file.name}.part"))
            to_fetch += fetched
            more += fetched
        more += unpacked
        most = max(most, more)
        more -= file.size_bytes
    _require(out, most + _SPARE_BYTES, f"{to_fetch / 1e9:.1f} GB of archives, one at a time, and what they hold")


def _bytes_to_unpack(out: Path, file: RemoteFile) -> int | None:
    """What an archive that is there holds beyond what is unpacked; None where it is yet to be fetched."""
    path = out / file.name
    if _size(path) != file.size_bytes:
        return None
    try:
        with zipfile.ZipFile(path) as packed:
            return _bytes_absent(path, packed, out)
    except UNREADABLE:
        return None  # damaged: its checksum will say so


def _bytes_absent(archive: Path, packed: zipfile.ZipFile, out: Path) -> int:
    return sum(
        member.file_size
        for member in packed.infolist()
        if not member.is_dir() and _size(out / _safe(archive, member.filename)) != member.file_size
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _require(out: Path, needed_bytes: int, for_what: str) -> None:
    free_bytes = shutil.disk_usage(out).free
    if free_bytes < needed_bytes:
        raise EdgeAsdError(
            f"{out}: {free_bytes / 1e9:.1f} GB are free; expected {needed_bytes / 1e9:.1f} GB for {for_what}; "
            "make room or give another folder"
        )


def _unpack(archive: Path, out: Path) -> None:
    """Unpack every file under a temporary name first, so that a clip is there whole or not at all."""
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [member for member in packed.infolist() if not member.is_dir()]
            _require(out, _bytes_absent(archive, packed, out), f"what {archive.name} holds")
            for member in members:
                target = out / _safe(archive, member.filename)
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary = target.with_name(f".{target.name}.tmp")
                with packed.open(member) as source, temporary.open("wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
                temporary.replace(target)
    except UNREADABLE as error:
        raise EdgeAsdError(
            f"{archive}: cannot be unpacked: {error}; the archive stays; make room and run the same command again"
        ) from error


def _safe(archive: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise EdgeAsdError(f"{archive}: holds {name!r}; expected names below the folder alone; it is not unpacked")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train.download",
        description="Fetch a public data set from Zenodo: resumed after a cut, verified, unpacked. Run it again after "
        "any failure; it goes on. Mind the licence on the record's page.",
        epilog="Example: python -m train.download dcase2020 --out data/dcase2020",
    )
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("--out", type=Path, required=True, help="data folder to write")
    parser.add_argument(
        "--api", default=ZENODO_API, help="another server with Zenodo's interface (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        tasks: dict[str, int] = {}

        def progress(name: str, of: int, done: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=of)
            bar.update(tasks[name], completed=done)  # type: ignore[arg-type] # a TaskID is an int

        told = Told(
            say=lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True), progress=progress
        )
        try:
            download(options.dataset, options.out, told=told, api=options.api)
        except EdgeAsdError as error:
            console.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
            return error.exit_code
        except KeyboardInterrupt:
            console.print("stopped; run the same command again, it goes on", highlight=False, markup=False)
            return UnavailableError.exit_code
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

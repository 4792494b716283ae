"""A folder that train.prepare wrote in, its index and its memory-mapped samples out; and the writing of the index."""

from __future__ import annotations

import contextlib
import csv
import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from edge_asd.errors import UsageError
from train.data.recording import Domain, Label, Recording, StatedSplit

HEAD_NAME = "prepared.json"
SAMPLES_NAME = "samples.i16"
INDEX_NAME = "index.csv"
REPORT_NAME = "report.csv"
SAMPLES_DTYPE = np.dtype("<i2")
_SCHEMA = 2
_READ_SCHEMAS = (1, 2)
"""1 is without digests, ctime and the recordings that were left out: it serves where its source is gone."""
_AGAIN = "run python -m train.prepare again"
_COLUMNS = (
    "file",
    "class",
    "label",
    "split",
    "group",
    "domain",
    "attributes",
    "start",
    "n_samples",
    "digest",
    "size",
    "mtime_ns",
    "ctime_ns",
)

Stat: TypeAlias = tuple[int, int, int]
"""Size in bytes, times of the last change of content and of anything in ns; zeros where the file cannot be reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedClip:
    """A recording and where its samples (int16, 16 kHz) stand: from `start`, n_samples of them.

    digest: sha256 of the samples in hex; empty where an earlier version prepared them.
    """

    recording: Recording
    start: int
    n_samples: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedIndex:
    """All that a prepared folder knows but the samples.

    source: the data folder it was made from, which need not be there any more. clips: by file name. recordings, stats:
    every clip of the source as it was read, by file name, those left out too. total_samples: in the samples' file.
    """

    source: Path
    clips: dict[str, PreparedClip]
    recordings: dict[str, Recording]
    stats: dict[str, Stat]
    total_samples: int


def is_prepared(folder: Path) -> bool:
    """Whether train.prepare has written, or begun to write, this folder."""
    return (folder / HEAD_NAME).is_file() or (folder / SAMPLES_NAME).is_file()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Open a text file for writing that takes the place of `path` when it is whole, and leaves nothing where it fails.

    What of a name is not UTF-8 is written as an escape.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_index(folder: Path, index: PreparedIndex) -> None:
    """Write the index, and the head last: with it the folder is whole.

    Raises:
        OSError: the folder cannot be written.
    """
    with replacing(folder / INDEX_NAME) as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for name, recording in sorted(index.recordings.items()):
            clip = index.clips.get(name)
            writer.writerow(
                [
                    name,
                    recording.class_name,
                    recording.label,
                    recording.stated_split,
                    recording.group,
                    recording.domain,
                    recording.attributes,
                    *(("", "", "") if clip is None else (clip.start, clip.n_samples, clip.digest)),
                    *index.stats[name],
                ]
            )
    head = {"schema": _SCHEMA, "source": str(index.source), "total_samples": index.total_samples}
    with replacing(folder / HEAD_NAME) as file:
        file.write(json.dumps(head, indent=2) + "\n")


def read_index(folder: Path) -> PreparedIndex:
    """Read the index of a prepared folder.

    Raises:
        UsageError: it is unfinished, damaged or of another version.
    """
    try:
        written_ns = (folder / HEAD_NAME).stat().st_mtime_ns
    except OSError as error:
        raise UsageError(
            f"{folder}: preparing it was not finished; expected {HEAD_NAME} there; {_AGAIN}, it goes on"
        ) from error
    return _read_index(folder, written_ns)


@functools.lru_cache(maxsize=2)  # a folder is asked for its clips many times, and may have 50,000 of them
def _read_index(folder: Path, _written_ns: int) -> PreparedIndex:
    try:
        head = json.loads((folder / HEAD_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder / HEAD_NAME}: cannot be read ({error}); expected JSON; {_AGAIN}") from error
    if head.get("schema") not in _READ_SCHEMAS:
        raise UsageError(
            f"{folder}: schema {head.get('schema')}; this version reads {_READ_SCHEMAS[0]} and {_SCHEMA}; {_AGAIN}"
        )
    clips: dict[str, PreparedClip] = {}
    recordings: dict[str, Recording] = {}
    stats: dict[str, Stat] = {}
    try:
        with (folder / INDEX_NAME).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                name = row["file"]
                stats[name] = int(row["size"]), int(row["mtime_ns"]), int(row.get("ctime_ns", 0))
                if row["class"]:
                    recordings[name] = _recording(row)
                if row["n_samples"]:
                    clips[name] = PreparedClip(
                        recording=recordings[name],
                        start=int(row["start"]),
                        n_samples=int(row["n_samples"]),
                        digest=row.get("digest", ""),
                    )
        n_bytes = (folder / SAMPLES_NAME).stat().st_size
    except (OSError, KeyError, ValueError) as error:
        raise UsageError(f"{folder}: its index or samples cannot be read ({error!r}); {_AGAIN}") from error
    total = int(head["total_samples"])
    if n_bytes != total * SAMPLES_DTYPE.itemsize or any(clip.start + clip.n_samples > total for clip in clips.values()):
        raise UsageError(
            f"{folder / SAMPLES_NAME}: {n_bytes} bytes; expected {total * SAMPLES_DTYPE.itemsize}; "
            "remove the folder and prepare it anew"
        )
    return PreparedIndex(
        source=Path(head["source"]), clips=clips, recordings=recordings, stats=stats, total_samples=total
    )


def _recording(row: dict[str, str]) -> Recording:
    return Recording(
        file=row["file"],
        class_name=row["class"],
        label=cast("Label", row["label"]),
        stated_split=cast("StatedSplit", row["split"]),
        group=row["group"],
        domain=cast("Domain", row["domain"]),
        attributes=row["attributes"],
    )


def map_samples(folder: Path, index: PreparedIndex) -> NDArray[np.int16]:
    """Map the samples of all clips, (total_samples,) int16, into memory for reading."""
    if index.total_samples == 0:
        return np.zeros(0, dtype=np.int16)
    return np.asarray(np.memmap(folder / SAMPLES_NAME, dtype=SAMPLES_DTYPE, mode="r", shape=(index.total_samples,)))


def places_of(index: PreparedIndex, files: Sequence[str], folder: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and lengths (N,) of these files in the mapped samples.

    Raises:
        UsageError: a file that was left out or never there.
    """
    absent = [file for file in files if file not in index.clips]
    if absent:
        raise UsageError(
            f"{folder}: {len(absent)} clips are not in it: {', '.join(absent[:5])}; expected those that were prepared; "
            f"{REPORT_NAME} there says which were left out and why"
        )
    clips = [index.clips[file] for file in files]
    return np.array([clip.start for clip in clips], np.int64), np.array([clip.n_samples for clip in clips], np.int64)

"""A folder that train.prepare wrote in, its index and its memory-mapped samples out; and the writing of both."""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from edge_asd.errors import UsageError
from train.data.recording import Domain, Label, Recording, StatedSplit

HEAD_NAME = "prepared.json"
SAMPLES_NAME = "samples.i16"
INDEX_NAME = "index.csv"
REPORT_NAME = "report.csv"
SAMPLES_DTYPE = np.dtype("<i2")
_SCHEMA = 1
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
    "size",
    "mtime_ns",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedClip:
    """A recording and where its samples (int16, 16 kHz) stand: from `start`, n_samples of them."""

    recording: Recording
    start: int
    n_samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedIndex:
    """All that a prepared folder knows but the samples.

    source: the data folder it was made from, which need not be there any more. clips: by file name. stats: size in
    bytes and time of change in ns of every clip of the source as it was read, those left out too. total_samples: in the
    samples' file.
    """

    source: Path
    clips: dict[str, PreparedClip]
    stats: dict[str, tuple[int, int]]
    total_samples: int


def is_prepared(folder: Path) -> bool:
    """Whether train.prepare has written, or begun to write, this folder."""
    return (folder / HEAD_NAME).is_file() or (folder / SAMPLES_NAME).is_file()


def write_index(folder: Path, index: PreparedIndex) -> None:
    """Write the index, and the head last: with it the folder is whole."""
    temporary = folder / f".{INDEX_NAME}.tmp"
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for name, (size, mtime_ns) in sorted(index.stats.items()):
            clip = index.clips.get(name)
            if clip is None:
                writer.writerow([name, *[""] * 8, size, mtime_ns])
                continue
            recording = clip.recording
            writer.writerow(
                [
                    name,
                    recording.class_name,
                    recording.label,
                    recording.stated_split,
                    recording.group,
                    recording.domain,
                    recording.attributes,
                    clip.start,
                    clip.n_samples,
                    size,
                    mtime_ns,
                ]
            )
    temporary.replace(folder / INDEX_NAME)
    head = {"schema": _SCHEMA, "source": str(index.source), "total_samples": index.total_samples}
    temporary = folder / f".{HEAD_NAME}.tmp"
    temporary.write_text(json.dumps(head, indent=2) + "\n", encoding="utf-8")
    temporary.replace(folder / HEAD_NAME)


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
    if head.get("schema") != _SCHEMA:
        raise UsageError(f"{folder}: schema {head.get('schema')}; this version reads {_SCHEMA}; {_AGAIN}")
    clips: dict[str, PreparedClip] = {}
    stats: dict[str, tuple[int, int]] = {}
    try:
        with (folder / INDEX_NAME).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                stats[row["file"]] = int(row["size"]), int(row["mtime_ns"])
                if row["class"]:
                    clips[row["file"]] = _clip(row)
        n_bytes = (folder / SAMPLES_NAME).stat().st_size
    except (OSError, KeyError, ValueError) as error:
        raise UsageError(f"{folder}: its index or samples cannot be read ({error!r}); {_AGAIN}") from error
    total = int(head["total_samples"])
    if n_bytes != total * SAMPLES_DTYPE.itemsize or any(clip.start + clip.n_samples > total for clip in clips.values()):
        raise UsageError(
            f"{folder / SAMPLES_NAME}: {n_bytes} bytes; expected {total * SAMPLES_DTYPE.itemsize}; "
            "remove the folder and prepare it anew"
        )
    return PreparedIndex(source=Path(head["source"]), clips=clips, stats=stats, total_samples=total)


def _clip(row: dict[str, str]) -> PreparedClip:
    recording = Recording(
        file=row["file"],
        class_name=row["class"],
        label=cast("Label", row["label"]),
        stated_split=cast("StatedSplit", row["split"]),
        group=row["group"],
        domain=cast("Domain", row["domain"]),
        attributes=row["attributes"],
    )
    return PreparedClip(recording=recording, start=int(row["start"]), n_samples=int(row["n_samples"]))


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

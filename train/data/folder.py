"""A data folder in any known layout in, its recordings out; a prepared folder is a data folder too."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from edge_asd.capture.clips import CLIP_SUFFIXES
from edge_asd.errors import UsageError
from train.data.names import LabelledNames, labels_from_rows, recording_from_path
from train.data.prepared import PreparedIndex, Stat, is_prepared, read_index
from train.data.recording import Recording
from train.data.table import TABLE_NAME, read_table

LABELS_PATTERN = "eval_data_list*.csv"
_LAYOUTS = (
    "expected metadata.csv, or DCASE (TYPE/train/normal_id_00_00000000.wav, TYPE/test/..., or section_00_source_train_"
    "normal_0000_....wav), or MIMII (TYPE/id_00/normal/00000000.wav), or what python -m train.prepare wrote"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a data folder holds: recordings by file name, and the clips that follow no known layout.

    why_ignored: of those whose name cannot be taken, by file name, what is wrong with it. emptied: classes of which
    train.prepare left out every clip.
    """

    recordings: tuple[Recording, ...]
    ignored: tuple[str, ...] = ()
    why_ignored: Mapping[str, str] = field(default_factory=dict)
    emptied: tuple[str, ...] = ()

    @property
    def labelled(self) -> tuple[Recording, ...]:
        """Those known to be normal or anomalous."""
        return tuple(recording for recording in self.recordings if recording.label != "none")


def load_recordings(folder: Path) -> tuple[Recording, ...]:
    """List the labelled recordings of a data folder.

    Raises:
        UsageError: the folder is absent, empty or in no known layout, it changed since it was prepared, its
            metadata.csv is not as expected, or no clip is labelled.
    """
    labelled = list_folder(folder).labelled
    if not labelled:
        raise UsageError(f"{folder}: no clip labelled normal or anomaly; {_LAYOUTS}")
    return labelled


def list_folder(folder: Path) -> Listing:
    """List all recordings of a data folder, labelled or not.

    Raises:
        UsageError: as `load_recordings`, but for labels.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; expected recorded clips; check the path")
    if is_prepared(folder):
        index = read_index(folder)
        if index.source.is_dir():
            _check_unchanged(folder, index)
        listing = Listing(
            recordings=tuple(clip.recording for clip in index.clips.values()), emptied=emptied_classes(index)
        )
    elif (folder / TABLE_NAME).is_file():
        listing = Listing(recordings=read_table(folder))
    else:
        listing = _from_names(folder)
    if not listing.recordings:
        found = f", but {len(listing.ignored)} clips as {listing.ignored[0]}" if listing.ignored else ""
        raise UsageError(f"{folder}: no metadata.csv there and no clip in a known layout{found}; {_LAYOUTS}")
    recordings = tuple(sorted(listing.recordings, key=lambda recording: recording.file))
    return dataclasses.replace(listing, recordings=recordings)


def emptied_classes(index: PreparedIndex) -> tuple[str, ...]:
    """Classes of the source of a prepared folder that have no clip left in it."""
    left = {clip.recording.class_name for clip in index.clips.values()}
    return tuple(sorted({recording.class_name for recording in index.recordings.values()} - left))


def _from_names(folder: Path) -> Listing:
    labelled = _read_labels(folder)
    data_name = folder.resolve().name
    recordings: list[Recording] = []
    ignored: list[str] = []
    why_ignored: dict[str, str] = {}
    for relative in _files_below(folder):
        if relative.suffix.lower() not in CLIP_SUFFIXES:
            continue
        name = os.fsencode(relative).decode("utf-8", "backslashreplace")
        recording = None
        if name != str(relative):
            why_ignored[name] = "its name is not UTF-8; rename it"
        else:
            try:
                recording = recording_from_path(relative, data_name, labelled)
            except ValueError as error:
                why_ignored[name] = str(error)
        if recording is None:
            ignored.append(name)
        else:
            recordings.append(recording)
    return Listing(recordings=tuple(recordings), ignored=tuple(ignored), why_ignored=why_ignored)


def _files_below(folder: Path) -> tuple[PurePosixPath, ...]:
    """Paths below the folder, in order; links to folders are followed, but never in a circle."""
    found: list[PurePosixPath] = []
    for root, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        above = os.path.realpath(root)
        folders[:] = [
            name for name in folders if not (above + os.sep).startswith(os.path.realpath(Path(root, name)) + os.sep)
        ]
        below = PurePosixPath(Path(root).relative_to(folder).as_posix())
        found.extend(below / name for name in files)
    return tuple(sorted(found))


def _refuse(error: OSError) -> None:
    raise UsageError(
        f"{error.filename}: cannot be listed ({error.strerror}); expected a folder that may be read; check its owner "
        "and mode"
    ) from error


def _read_labels(folder: Path) -> LabelledNames:
    labelled: dict[tuple[str, str], str] = {}
    for path in (folder / relative for relative in _files_below(folder) if relative.match(LABELS_PATTERN)):
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                labelled.update(labels_from_rows(list(csv.reader(file))))
        except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
            raise UsageError(
                f"{path}: cannot be read ({error}); expected lines of a machine type alone, and of a clip's name and "
                "its labelled name or 0 or 1; download it again"
            ) from error
    return labelled


def _check_unchanged(folder: Path, index: PreparedIndex) -> None:
    """Compare the source's clips, and all that is known of each, with those that were prepared."""
    source = index.source
    if is_prepared(source):
        raise UsageError(
            f"{folder}: was prepared from {source}, which is a prepared folder itself; expected recorded clips; "
            "prepare those into a new folder"
        )
    now = {recording.file: recording for recording in list_folder(source).recordings}
    both = sorted(now.keys() & index.recordings.keys())
    faults = [
        f"{len(files)} {what} ({', '.join(files[:3])}{', ...' if len(files) > 3 else ''})"
        for what, files in (
            ("altered", [file for file in both if stat_of(source / file) != index.stats[file]]),
            ("of another class, label, split or group", [file for file in both if now[file] != index.recordings[file]]),
            ("new", sorted(now.keys() - index.recordings.keys())),
            ("gone", sorted(index.recordings.keys() - now.keys())),
        )
        if files
    ]
    if faults:
        raise UsageError(
            f"{source} has changed since {folder} was prepared from it: {'; '.join(faults)}; expected the same clips; "
            f"run python -m train.prepare {source} --out {folder}, which reads only what changed"
        )


def stat_of(path: Path) -> Stat:
    """What an altered clip is noticed by: it cannot be altered without a later time of change of its inode."""
    try:
        stat = path.stat()
    except OSError:
        return 0, 0, 0
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns

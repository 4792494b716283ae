"""A folder with a metadata.csv in, its recordings by class and the split that no group straddles out."""

from __future__ import annotations

import csv
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np

from edge_asd.capture.clips import read_clip
from edge_asd.errors import ClipError, UsageError
from edge_asd.types import FloatArray
from train.checkpoint import Split

Label: TypeAlias = Literal["normal", "anomaly"]
StatedSplit: TypeAlias = Literal["train", "test", "none"]

_COLUMNS = ("file", "machine_type", "machine_id", "label", "split", "group")
_LAYOUT = (
    "expected a folder with a metadata.csv of the columns file, machine_type, machine_id, "
    "label (normal, anomaly), split (train, test, none) and group"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One line of metadata.csv. group: recordings that must stay on one side of every split."""

    file: str
    class_name: str  # TYPE/ID
    label: Label
    stated_split: StatedSplit
    group: str


def load_recordings(folder: Path) -> tuple[Recording, ...]:
    """Read metadata.csv; clips without a label of normal or anomaly are left out.

    Raises:
        UsageError: the folder or its metadata.csv is absent, empty or not as expected, or a clip is not there.
    """
    table = folder / "metadata.csv"
    if not table.is_file():
        raise UsageError(f"{folder}: no metadata.csv there; {_LAYOUT}")
    with table.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        absent = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
        if absent:
            raise UsageError(f"{table}: column {', '.join(absent)} is missing; {_LAYOUT}")
        recordings = [_recording(table, reader.line_num, row) for row in reader if row["label"] in get_args(Label)]
    if not recordings:
        raise UsageError(f"{table}: no clip labelled normal or anomaly; {_LAYOUT}")
    repeated = [file for file, count in Counter(recording.file for recording in recordings).items() if count > 1]
    if repeated:
        raise UsageError(f"{table}: {', '.join(repeated[:5])} listed more than once; expected one line a clip")
    gone = [recording.file for recording in recordings if not (folder / recording.file).is_file()]
    if gone:
        raise UsageError(f"{folder}: {len(gone)} clips of metadata.csv are not there: {', '.join(gone[:5])}; copy them")
    return tuple(sorted(recordings, key=lambda recording: recording.file))


def _recording(table: Path, line: int, row: dict[str, str]) -> Recording:
    stated = row["split"] or "none"
    if stated not in get_args(StatedSplit):
        raise UsageError(f"{table} line {line}: split is {stated!r}; expected train, test or none")
    for column in ("file", "machine_type", "machine_id"):
        if not row[column]:
            raise UsageError(f"{table} line {line}: {column} is empty; {_LAYOUT}")
    return Recording(
        file=row["file"],
        class_name=f"{row['machine_type']}/{row['machine_id']}",
        label="normal" if row["label"] == "normal" else "anomaly",
        stated_split="train" if stated == "train" else "test" if stated == "test" else "none",
        group=row["group"] or row["file"],
    )


def split_recordings(
    recordings: Sequence[Recording],
    *,
    seed: int,
    validation_share: float,
    held_out_share: float,
    limit: int | None = None,
) -> tuple[tuple[str, ...], Split]:
    """Split by group, the same for the same seed, class by class and independent of the other classes.

    Healthy recordings that metadata.csv gives to the test, or whose group holds an anomaly, are held out. Of a class
    without such, `held_out_share` of its groups is, at least one. `validation_share` of the rest validates, at least
    one group. Classes without healthy recordings cannot be trained and are left out with their anomalies.

    Args:
        recordings: as `load_recordings` gives them.
        seed: decides which groups go where.
        validation_share: of the class's groups, 0..1.
        held_out_share: of the class's groups, 0..1.
        limit: at most this many groups of healthy recordings a class.

    Returns:
        Class names in order, and the split.

    Raises:
        UsageError: fewer than two classes, too few recordings in one, or an anomaly stated for training.
    """
    _check_stated(recordings)
    anomaly_groups = {recording.group for recording in recordings if recording.label == "anomaly"}
    fixed = anomaly_groups | {recording.group for recording in recordings if recording.stated_split == "test"}
    normal: dict[str, list[Recording]] = defaultdict(list)
    for recording in recordings:
        if recording.label == "normal":
            normal[recording.class_name].append(recording)
    if len(normal) < 2:
        raise UsageError(
            f"{len(normal)} class with healthy recordings ({', '.join(normal) or 'none'}); expected 2 or more: "
            "the network learns by telling machines apart; add recordings of another machine"
        )
    sides: dict[str, list[str]] = {"train": [], "validation": [], "held_out": []}
    for class_name, members in sorted(normal.items()):
        side_of = _side_of_group(
            class_name,
            members,
            fixed,
            rng=np.random.default_rng([seed, zlib.crc32(class_name.encode())]),
            validation_share=validation_share,
            held_out_share=held_out_share,
            limit=limit,
        )
        for recording in members:
            if recording.group in side_of:
                sides[side_of[recording.group]].append(recording.file)
    anomaly = [
        recording.file for recording in recordings if recording.label == "anomaly" and recording.class_name in normal
    ]
    split = Split(**{side: tuple(sorted(files)) for side, files in sides.items()}, anomaly=tuple(sorted(anomaly)))
    return tuple(sorted(normal)), split


def _check_stated(recordings: Sequence[Recording]) -> None:
    for recording in recordings:
        if recording.label == "anomaly" and recording.stated_split == "train":
            raise UsageError(
                f"metadata.csv: {recording.file} is an anomaly stated for training; "
                "expected damaged clips in the test alone"
            )
    stated: dict[str, set[StatedSplit]] = defaultdict(set)
    for recording in recordings:
        stated[recording.group].add(recording.stated_split)
    for group, splits in stated.items():
        if len(splits) > 1:
            raise UsageError(
                f"metadata.csv: group {group} is stated for {' and '.join(sorted(splits))}; expected one of them"
            )


def _side_of_group(
    class_name: str,
    members: Sequence[Recording],
    fixed: set[str],
    *,
    rng: np.random.Generator,
    validation_share: float,
    held_out_share: float,
    limit: int | None,
) -> dict[str, str]:
    held_out = sorted({recording.group for recording in members} & fixed)
    free = sorted({recording.group for recording in members} - fixed)
    rng.shuffle(free)
    free = free[:limit]
    n_held_out = 0 if held_out else max(1, round(held_out_share * len(free)))
    n_validation = max(1, round(validation_share * len(free)))
    if len(free) - n_held_out - n_validation < 1:
        raise UsageError(
            f"class {class_name} has {len(free)} groups of healthy recordings to train on; expected at least "
            f"{n_held_out + n_validation + 1} ({n_held_out} held out, {n_validation} for validation); record more"
        )
    held_out += free[:n_held_out]
    validation = free[n_held_out : n_held_out + n_validation]
    train = free[n_held_out + n_validation :]
    return {
        group: side
        for side, groups in (("held_out", held_out), ("validation", validation), ("train", train))
        for group in groups
    }


def read_waves(folder: Path, files: Sequence[str]) -> dict[str, FloatArray]:
    """Read clips as (n,) float32 at 16 kHz by their file name.

    Raises:
        ClipError: a clip that cannot be used; all of them in one message.
    """
    waves: dict[str, FloatArray] = {}
    faults: list[str] = []
    for file in files:
        try:
            waves[file] = read_clip(folder / file)
        except ClipError as error:
            faults.append(str(error))
    if faults:
        more = f"\n... and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise ClipError("\n".join(faults[:10]) + more)
    return waves

"""A metadata.csv in, its recordings out."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import cast, get_args

from edge_asd.errors import UsageError
from train.data.recording import Domain, Label, Recording, StatedSplit

TABLE_NAME = "metadata.csv"
_COLUMNS = ("file", "machine_type", "machine_id", "label", "split", "group")
_EXPECTED = (
    "expected the columns file, machine_type, machine_id, label (normal, anomaly; none where it is not known), split "
    "(train, validation, test, none), group, and where known domain (source, target) and attributes"
)


def read_table(folder: Path) -> tuple[Recording, ...]:
    """Read metadata.csv line by line.

    Raises:
        UsageError: it is not as expected, lists a clip twice, or a clip is not there.
    """
    table = folder / TABLE_NAME
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            absent = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
            if absent:
                raise UsageError(f"{table}: column {', '.join(absent)} is missing; {_EXPECTED}")
            recordings = [_recording(table, reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{table}: cannot be read ({error}); expected CSV in UTF-8") from error
    repeated = [file for file, count in Counter(recording.file for recording in recordings).items() if count > 1]
    if repeated:
        raise UsageError(f"{table}: {', '.join(repeated[:5])} listed more than once; expected one line a clip")
    gone = [recording.file for recording in recordings if not (folder / recording.file).is_file()]
    if gone:
        raise UsageError(f"{folder}: {len(gone)} clips of metadata.csv are not there: {', '.join(gone[:5])}; copy them")
    return tuple(recordings)


def _recording(table: Path, line: int, row: dict[str, str | None]) -> Recording:
    cells = {column: (text or "").strip() for column, text in row.items() if isinstance(column, str)}
    for column in ("file", "machine_type", "machine_id"):
        if not cells[column]:
            raise UsageError(f"{table} line {line}: {column} is empty; {_EXPECTED}")
    if "/" in cells["machine_id"]:
        raise UsageError(
            f"{table} line {line}: machine_id is {cells['machine_id']!r}; expected no slash, which parts type "
            "and ID in a class; put another sign in its place"
        )
    for column, kind in (("label", Label), ("split", StatedSplit), ("domain", Domain)):
        value = cells.setdefault(column, "") or "none"
        if value not in get_args(kind):
            raise UsageError(f"{table} line {line}: {column} is {value!r}; expected {', '.join(get_args(kind))}")
        cells[column] = value
    return Recording(
        file=cells["file"],
        class_name=f"{cells['machine_type']}/{cells['machine_id']}",
        label=cast("Label", cells["label"]),
        stated_split=cast("StatedSplit", cells["split"]),
        group=cells["group"] or cells["file"],
        domain=cast("Domain", cells["domain"]),
        attributes=cells.get("attributes", ""),
    )

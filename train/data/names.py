"""A clip's path below the data folder in, what its name's own fields say of it out: DCASE 2020 to 2025, and MIMII."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import cast

from train.data.recording import Domain, Label, Recording, StatedSplit

# A name's fields stand at fixed places between underscores; nothing is searched for within the path.
_DCASE_2020 = re.compile(r"(?:(?P<label>normal|anomaly)_)?(?P<id>id_\d+)_\d+")
_DCASE_2021 = re.compile(
    r"(?P<id>section_\d+)_(?P<domain>source|target)_(?P<split>train|test)"
    r"(?:_(?P<label>normal|anomaly))?_\d+(?:_(?P<attributes>.*))?"  # where there are none, 2022 ends in an underscore
)
_DCASE_2022_UNLABELLED = re.compile(r"(?P<id>section_\d+)(?:_(?P<split>test))?_\d+(?:_(?P<attributes>.*))?")
_MIMII_ID = re.compile(r"id_\d+")
_MIMII_LABELS: Mapping[str, Label] = {"normal": "normal", "abnormal": "anomaly"}
_SPLIT_FOLDERS: Mapping[str, StatedSplit] = {
    "train": "train",
    "test": "test",
    "source_test": "test",  # DCASE 2021
    "target_test": "test",
    "test_rename": "test",  # where the organisers' baselines put evaluation clips under their labelled names
}

LabelledNames = Mapping[tuple[str, str], str]
"""(machine type, name without suffix) of an evaluation clip to its labelled name without suffix."""


def recording_from_path(path: PurePosixPath, data_name: str, labelled: LabelledNames) -> Recording | None:
    """Read a clip's path; None where it follows no known layout.

    Args:
        path: below the data folder.
        data_name: name of the data folder, which is the machine type where the path holds none.
        labelled: names of evaluation clips with their labels, as `read_labels` gives them.

    Raises:
        ValueError: the folder says training and the name test, or the other way round.
    """
    folders = (data_name, *path.parts[:-1])
    if folders[-1] in _SPLIT_FOLDERS and len(folders) >= 2:
        return _dcase(path, folders[-2], _SPLIT_FOLDERS[folders[-1]], labelled)
    if folders[-1] in _MIMII_LABELS and len(folders) >= 3 and _MIMII_ID.fullmatch(folders[-2]):
        machine_type, machine_id, label = folders[-3], folders[-2], folders[-1]
        return Recording(
            file=str(path),
            class_name=f"{machine_type}/{machine_id}",
            label=_MIMII_LABELS[label],
            stated_split="none",
            group=f"{machine_type}/{machine_id}/{label}/{path.stem}",  # the same at each signal-to-noise ratio
        )
    return None


def _dcase(path: PurePosixPath, machine_type: str, split: StatedSplit, labelled: LabelledNames) -> Recording | None:
    name = labelled.get((machine_type, path.stem), path.stem)
    for pattern in (_DCASE_2020, _DCASE_2021, _DCASE_2022_UNLABELLED):
        match = pattern.fullmatch(name)
        if match is None:
            continue
        fields = match.groupdict()
        if fields.get("split") not in (None, split):
            raise ValueError(f"its folder says {split} and its name {fields['split']}; move or rename it")
        return Recording(
            file=str(path),
            class_name=f"{machine_type}/{fields['id']}",
            label=cast("Label", fields.get("label") or "none"),
            stated_split=split,
            group=str(path),
            domain=cast("Domain", fields.get("domain") or "none"),
            attributes=fields.get("attributes") or "",
        )
    return None


def labels_from_rows(rows: list[list[str]]) -> dict[tuple[str, str], str]:
    """Read an eval_data_list.csv: a line with a machine type alone, then one a clip.

    A clip's line holds its name and its labelled name (2021 and later), or its name, another and 0 for normal or 1 for
    anomaly (2020).

    Source: the ground truth that the organisers of DCASE Task 2 publish (for 2020: Zenodo record 3951620).

    Raises:
        ValueError: a line that is neither, with its number.
    """
    labelled: dict[tuple[str, str], str] = {}
    machine_type = ""
    for number, row in enumerate(rows, start=1):
        cells = [cell.strip() for cell in row if cell.strip()]
        if len(cells) == 1:
            machine_type = cells[0]
        elif cells:
            name = PurePosixPath(cells[0]).stem
            named = _labelled_name(name, cells[1:])
            if not machine_type or named is None:
                raise ValueError(f"line {number} is {','.join(row)!r}")
            labelled[machine_type, name] = named
    return labelled


def _labelled_name(name: str, cells: list[str]) -> str | None:
    if len(cells) >= 2 and cells[1] in ("0", "1"):
        named = f"{'anomaly' if cells[1] == '1' else 'normal'}_{name}"
    else:
        named = PurePosixPath(cells[0]).stem
    match = _DCASE_2020.fullmatch(named) or _DCASE_2021.fullmatch(named)
    return named if match is not None and match["label"] is not None else None

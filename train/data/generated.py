"""A data folder in, whether its sound was generated, not recorded, out."""

from __future__ import annotations

import csv
from pathlib import Path

from train.data.prepared import is_prepared, read_index
from train.data.table import TABLE_NAME

CARD_NAME = "DATA_CARD.md"
"""What python -m train.synth writes beside its clips, and train.prepare beside theirs."""
CARD_HEADING = "# Generated machine sound"
GENERATED = "generated"
"""In the column `source` of metadata.csv, and wherever figures on such sound are labelled."""
SOUND = "sound"
"""Names the label beside the settings and figures of a run."""
GENERATED_NOTE = "the sound is generated, not recorded: figures on it say how methods compare, nothing of real machines"


def is_generated(folder: Path) -> bool:
    """Whether clips of a data folder were generated: by its card, its table, or the card of the folder around it.

    Of a prepared folder that of its source counts too, where it is still there.

    Raises:
        UsageError: a prepared folder cannot be read.
    """
    folders = [folder, read_index(folder).source] if is_prepared(folder) else [folder]
    return any(
        _card_says_so(each / CARD_NAME) or _card_says_so(each.resolve().parent / CARD_NAME) or _table_says_so(each)
        for each in folders
    )


def _card_says_so(path: Path) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace").startswith(CARD_HEADING)


def _table_says_so(folder: Path) -> bool:
    path = folder / TABLE_NAME
    if not path.is_file():
        return False
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        return any(row.get("source") == GENERATED for row in csv.DictReader(file))

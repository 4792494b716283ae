"""`edge-asd evidence`: a device's configuration in, what is kept of its alarms out: listed, shown, or for a browser."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edge_asd.commands.device_option import add_device_option
from edge_asd.config import load_config
from edge_asd.errors import UnavailableError, UsageError
from edge_asd.evidence import SUFFIXES, EvidenceFolder, Kept, page_html
from edge_asd.features import mel_filters
from edge_asd.types import FeatureSpec

_MARKS_HZ = (250, 500, 1_000, 2_000, 4_000, 8_000)


def add_parser(subparsers: Any) -> None:
    """Add the command and its actions."""
    parser = subparsers.add_parser(
        "evidence",
        help="list, show or export the sound around alarms",
        description="What the daemon kept of each alarm: the sound before and after it was raised, its spectrogram and "
        "its scores. The id is the alarm's; its first characters will do.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, dest="action")
    for name, summary in (
        ("list", "list what is there, oldest first"),
        ("show", "show one alarm's evidence and where its files are"),
        ("export", "copy one alarm's sound, picture and scores to a folder, with a page for a browser"),
    ):
        action = actions.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        add_device_option(action)
        if name != "list":
            action.add_argument("id", metavar="ID", help="of the alarm, or its first characters")
        if name == "export":
            action.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="made where it is not there")
        else:
            action.add_argument("--json", action="store_true", help="print JSON and nothing else")
        action.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List, show or export.

    Raises:
        ConfigError: the configuration has faults.
        UsageError: no evidence, or that of several alarms, has such an id.
        UnavailableError: files cannot be read or written.
    """
    folder = EvidenceFolder(load_config(arguments.config, files_must_exist=False).evidence_dir)
    kept = folder.kept()
    if arguments.action == "list":
        _print_list(kept, folder, as_json=arguments.json)
        return 0
    one = _one(kept, arguments.id)
    try:
        if arguments.action == "export":
            _export(one, folder.path, arguments.to)
        elif arguments.json:
            print(json.dumps(asdict(one)))
        else:
            _print_one(one, folder.path)
    except OSError as error:
        raise UnavailableError(f"evidence of alarm {one.id}: {error}; check the disk and who may read it") from error
    return 0


def _one(kept: list[Kept], wanted: str) -> Kept:
    found = [each for each in kept if each.id.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    raise UsageError(
        f"there is evidence of {len(found)} alarms whose id begins with {wanted!r}; expected one; `edge-asd evidence "
        "list` tells what is there (old evidence makes room for new)"
    )


def _print_list(kept: list[Kept], folder: EvidenceFolder, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([asdict(each) for each in kept]))
        return
    console = Console(highlight=False)
    table = Table("id", "machine", "began", box=box.SIMPLE)
    for heading in ("highest score", "threshold", "sound"):
        table.add_column(heading, justify="right")
    for each in kept:
        sound = f"{each.length_s:.1f} s" + ("" if each.whole else ", cut short")
        table.add_row(
            each.id, Text(each.machine), each.began_utc, f"{each.peak_score:.2f}", f"{each.threshold:.2f}", sound
        )
    console.print(table)
    console.print(f"{len(kept)} alarms, {folder.n_bytes / 1e6:.1f} MB in {folder.path}", markup=False, soft_wrap=True)


def _print_one(kept: Kept, folder: Path) -> None:
    for name, value in (
        ("alarm", kept.id),
        ("machine", kept.machine),
        ("model", f"{kept.model['name']} {kept.model['version']}"),
        ("above the threshold since", kept.began_utc),
        ("sound", f"{kept.length_s:.1f} s from {kept.begin_utc}" + ("" if kept.whole else ", cut short")),
        ("raised", f"{kept.alarm_at_s:.1f} s into it"),
        ("lost within it", f"{sum(gap.length_s for gap in kept.gaps):.2f} s in {len(kept.gaps)} gaps"),
        ("threshold", f"{kept.threshold:.2f}"),
        ("scores", ", ".join(f"{scored.score:.2f}" for scored in kept.scores)),
        *((suffix, str(folder / f"{kept.id}{suffix}")) for suffix in SUFFIXES),
    ):
        print(f"{name:<28}{value}")


def _export(kept: Kept, folder: Path, to: Path) -> None:
    contents = {suffix: (folder / f"{kept.id}{suffix}").read_bytes() for suffix in SUFFIXES}
    to.mkdir(parents=True, exist_ok=True)
    for suffix, content in contents.items():
        (to / f"{kept.id}{suffix}").write_bytes(content)
    spec = FeatureSpec()
    peaks_hz = mel_filters(spec).argmax(axis=1) * spec.sample_rate_hz / spec.n_fft
    mel_of_hz = {hz: float(np.searchsorted(peaks_hz, hz)) / spec.n_mels for hz in _MARKS_HZ}
    page = to / f"{kept.id}.html"
    text = page_html(kept, flac=contents[".flac"], png=contents[".png"], mel_of_hz=mel_of_hz)
    page.write_text(text, encoding="utf-8")
    print(page)

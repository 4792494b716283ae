"""`edge-asd devices`: the machine's sound cards in, a table or JSON of their names, channels and rates out."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from edge_asd.capture.clips import SAMPLE_RATE_HZ
from edge_asd.capture.devices import SoundDevice, list_devices, takes_rate
from edge_asd.errors import UnavailableError


@dataclass(frozen=True, kw_only=True)
class _Card:
    """A sound card as it is shown; takes_16_khz is None where it cannot be opened now."""

    name: str
    alsa_id: str | None
    usb_path: str | None
    channels: int
    native_rate_hz: int
    takes_16_khz: bool | None
    is_default: bool
    trouble: str | None


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of `edge-asd`."""
    parser = subparsers.add_parser(
        "devices",
        help="list the sound cards that can record",
        description="List the sound cards that can record, with what a configuration's source may choose them by "
        "(`device`: the name, of which a part is enough; `alsa_id`; `usb_path`), their channels and rates.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List the sound cards; 0 even when there is none.

    Raises:
        UnavailableError: PortAudio is not installed.
    """
    cards = [_look_at(device) for device in list_devices()]
    if arguments.json:
        json.dump([asdict(card) for card in cards], sys.stdout, indent=1)
        print()
        return 0
    if not cards:
        print("no sound card that can record; connect one, and see `arecord --list-devices`", file=sys.stderr)
        return 0
    table = Table(box=None)
    for heading in ("name", "alsa_id", "usb_path", "channels", "rate", "16 kHz"):
        table.add_column(heading, no_wrap=True)
    for card in cards:
        takes = {True: "directly", False: "resampled", None: "see below"}[card.takes_16_khz]
        name = f"{card.name} (default)" if card.is_default else card.name
        table.add_row(
            name, card.alsa_id or "-", card.usb_path or "-", str(card.channels), f"{card.native_rate_hz} Hz", takes
        )
    Console(markup=False, highlight=False).print(table)
    for trouble in (card.trouble for card in cards if card.trouble):
        print(trouble)
    return 0


def _look_at(device: SoundDevice) -> _Card:
    takes: bool | None = None
    trouble = None
    try:
        takes = takes_rate(device, 1, SAMPLE_RATE_HZ)
    except UnavailableError as error:
        trouble = str(error)
    return _Card(
        name=device.name,
        alsa_id=device.alsa_id,
        usb_path=device.usb_path,
        channels=device.channels,
        native_rate_hz=device.native_rate_hz,
        takes_16_khz=takes,
        is_default=device.is_default,
        trouble=trouble,
    )

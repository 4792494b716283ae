"""`edge-asd devices`: the machine's sound cards in, a table or JSON of their names, channels and rates out."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from edge_asd.capture.survey import SurveyedCard, survey


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
        UnavailableError: PortAudio is not installed, or hangs.
    """
    cards = survey()
    if arguments.json:
        json.dump([_facts(card) for card in cards], sys.stdout, indent=1)
        print()
        return 0
    if not cards:
        print("no sound card that can record; connect one, and see `arecord --list-devices`", file=sys.stderr)
        return 0
    table = Table(box=None)
    for heading in ("name", "alsa_id", "usb_path", "channels", "rate", "16 kHz"):
        table.add_column(heading, no_wrap=True)
    for card in cards:
        device = card.device
        table.add_row(
            f"{device.name} (default)" if device.is_default else device.name,
            device.alsa_id or "-",
            device.usb_path or "-",
            str(device.channels),
            f"{device.native_rate_hz} Hz",
            {True: "directly", False: "resampled", None: "see below"}[card.takes_16_khz],
        )
    Console(markup=False, highlight=False).print(table)
    for card in cards:
        if card.trouble:
            print(card.trouble)
    return 0


def _facts(card: SurveyedCard) -> dict[str, Any]:
    """All of a card but PortAudio's number for it, which is good for nothing after this."""
    facts = {**asdict(card.device), "takes_16_khz": card.takes_16_khz, "trouble": card.trouble}
    del facts["index"]
    return facts

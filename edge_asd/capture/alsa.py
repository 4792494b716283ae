"""The kernel's list of sound cards in, what stays the same of each from boot to boot out: its id and its USB port."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_CLASS_FOLDER = Path("/sys/class/sound")
_USB_PATH = re.compile(r"/(\d+-\d+(?:\.\d+)*):\d+\.\d+/sound/card\d+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlsaCard:
    """A sound card as ALSA knows it.

    number: changes with the order in which cards are found. alsa_id: its name in /proc/asound, made from the product's
    name; of two alike, the one found later gets `_1` at its end. usb_path: the USB port that it is plugged into, as
    `1-2.3` (bus 1, port 2, port 3 of the hub there); None where it is no USB card.
    """

    number: int
    alsa_id: str
    usb_path: str | None


def alsa_cards(folder: Path = _CLASS_FOLDER) -> dict[int, AlsaCard]:
    """Return the kernel's sound cards by number; none where it has no sound, as in most containers.

    Source: sysfs-bus-usb in the kernel's documentation, for the names of USB ports.
    """
    cards = {}
    for entry in folder.glob("card[0-9]*"):
        try:
            alsa_id = (entry / "id").read_text(encoding="utf-8").strip()
        except OSError:  # it went away meanwhile
            continue
        number = int(entry.name.removeprefix("card"))
        usb_path = _USB_PATH.search(str(entry.resolve()))
        cards[number] = AlsaCard(number=number, alsa_id=alsa_id, usb_path=usb_path[1] if usb_path else None)
    return cards

"""The machine's sound cards in, the one that a configuration means out, or an error that lists what there is."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from edge_asd.capture.alsa import AlsaCard, alsa_cards
from edge_asd.errors import UnavailableError

_INVALID_SAMPLE_RATE = -9997
"""Source: paInvalidSampleRate in portaudio.h."""

_ALSA_NUMBERS = re.compile(r" \(hw:(\d+),\d+\)$")
"""What PortAudio adds to the name of a card of the kernel's: numbers that change from boot to boot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardChoice:
    """Which sound card is meant, by what stays the same from boot to boot; nothing means the system's default.

    name: its name, a part that no other card's name holds, or a pattern of those with `*` and `?`; in any case.
    alsa_id, usb_path: as in AlsaCard. At most one of the three.
    """

    name: str | None = None
    alsa_id: str | None = None
    usb_path: str | None = None

    def __str__(self) -> str:
        """What messages call the card, even while it is not there."""
        if self.name is not None:
            return f"sound card {self.name!r}"
        if self.alsa_id is not None:
            return f"sound card of ALSA id {self.alsa_id!r}"
        if self.usb_path is not None:
            return f"sound card at USB port {self.usb_path!r}"
        return "the default sound card"


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundDevice:
    """A sound card that can record.

    index: PortAudio's number for it, good until the next look. name: without the kernel's numbers. alsa_id, usb_path:
    as in AlsaCard; None where a sound server or an ALSA plugin stands between. channels: how many it records.
    native_rate_hz: the rate that it prefers.
    """

    index: int
    name: str
    alsa_id: str | None = None
    usb_path: str | None = None
    channels: int
    native_rate_hz: int
    is_default: bool


def portaudio() -> Any:
    """Return the sounddevice module, imported late so that a machine without PortAudio can still play clips.

    Raises:
        UnavailableError: PortAudio is not installed, or does not start.
    """
    try:
        import sounddevice  # noqa: PLC0415 - importing it loads and starts PortAudio
    except OSError as error:
        raise UnavailableError(
            f"PortAudio is not installed ({error}); expected it for recording from a sound card; "
            "install it (`sudo apt install libportaudio2`)"
        ) from error
    return sounddevice


def list_devices() -> tuple[SoundDevice, ...]:
    """Return the sound cards that can record, in PortAudio's order, as they were when this process first asked.

    Raises:
        UnavailableError: PortAudio is not installed.
    """
    sounddevice = portaudio()
    default_index = sounddevice.default.device[0]
    if default_index < 0:  # PortAudio's own default
        default_index = next((api["default_input_device"] for api in sounddevice.query_hostapis()), -1)
    of_kernel = alsa_cards()
    return tuple(
        _sound_device(device, of_kernel, is_default=device["index"] == default_index)
        for device in sounddevice.query_devices()
        if device["max_input_channels"] > 0
    )


def _sound_device(device: Mapping[str, Any], of_kernel: Mapping[int, AlsaCard], *, is_default: bool) -> SoundDevice:
    numbers = _ALSA_NUMBERS.search(device["name"])
    card = of_kernel.get(int(numbers[1])) if numbers else None
    return SoundDevice(
        index=device["index"],
        name=_ALSA_NUMBERS.sub("", device["name"]),
        alsa_id=card.alsa_id if card else None,
        usb_path=card.usb_path if card else None,
        channels=device["max_input_channels"],
        native_rate_hz=round(device["default_samplerate"]),
        is_default=is_default,
    )


def choose_device(devices: Sequence[SoundDevice], choice: CardChoice) -> SoundDevice:
    """Return the device that is meant.

    Raises:
        UnavailableError: there is none, no such one, or several that it could be.
    """
    if not devices:
        raise UnavailableError(
            "no sound card that can record was found; expected one; connect it, and see `arecord --list-devices` "
            "(the user must be in the group `audio`)"
        )
    if choice.name is not None:
        return _by_name(devices, choice.name)
    if choice.alsa_id is not None:
        return _by_place(devices, choice, {device.index: device.alsa_id for device in devices}, choice.alsa_id)
    if choice.usb_path is not None:
        return _by_place(devices, choice, {device.index: device.usb_path for device in devices}, choice.usb_path)
    for device in devices:
        if device.is_default:
            return device
    names = ", ".join(repr(device.name) for device in devices)
    raise UnavailableError(f"the system has no default sound card; expected the name of one; use one of {names}")


def _by_name(devices: Sequence[SoundDevice], wanted: str) -> SoundDevice:
    matches = [device for device in devices if device.name == wanted]
    if not matches:
        pattern = f"*{wanted.casefold().replace('[', '[[]')}*"  # names may hold brackets: they stand for themselves
        matches = [device for device in devices if fnmatchcase(device.name.casefold(), pattern)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        found = ", ".join(repr(device.name) for device in matches)
        places = "; ".join(
            f"{device.name!r} is alsa_id {device.alsa_id!r}"
            + (f", usb_path {device.usb_path!r}" if device.usb_path else "")
            for device in matches
            if device.alsa_id
        )
        alike = f", or its alsa_id or usb_path instead: {places}" if places else ""
        raise UnavailableError(
            f"sound card {wanted!r} could be any of {found}; expected what fits one name alone; give more of the "
            f"name{alike}"
        )
    names = [device.name for device in devices]
    close = difflib.get_close_matches(wanted, names, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UnavailableError(
        f"no sound card is called {wanted!r}; {hint}expected (a part of) one of {', '.join(map(repr, names))}; connect "
        "it, or correct the name"
    )


def _by_place(
    devices: Sequence[SoundDevice], choice: CardChoice, places: Mapping[int, str | None], wanted: str
) -> SoundDevice:
    """The first device of the card there: a card may have several, and the first is its main one."""
    for device in devices:
        if places[device.index] == wanted:
            return device
    found = ", ".join(f"{place!r} ({device.name})" for device in devices if (place := places[device.index]))
    raise UnavailableError(
        f"there is no {choice}; expected one of {found or 'none, for no card that can record has one'}; connect it, or "
        "see `edge-asd devices`"
    )


def takes_rate(device: SoundDevice, channels: int, rate_hz: int) -> bool:
    """Whether the card records at that rate by itself.

    Raises:
        UnavailableError: it cannot be opened at all.
    """
    sounddevice = portaudio()
    try:
        sounddevice.check_input_settings(device=device.index, channels=channels, dtype="float32", samplerate=rate_hz)
    except sounddevice.PortAudioError as error:
        if _INVALID_SAMPLE_RATE in error.args:
            return False
        raise UnavailableError(cannot_open(device, error)) from error
    return True


def cannot_open(device: SoundDevice, error: Exception) -> str:
    """Say that a card is there but cannot be used."""
    return (
        f"sound card {device.name!r} cannot be opened ({error.args[0]}); expected to record from it; see whether "
        "another program uses it"
    )

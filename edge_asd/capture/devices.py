"""The machine's sound cards in, the one that a name means out, or an error that lists what there is."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge_asd.capture.clips import SAMPLE_RATE_HZ
from edge_asd.errors import UnavailableError

_INVALID_SAMPLE_RATE = -9997
"""Source: paInvalidSampleRate in portaudio.h."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundDevice:
    """A sound card that can record.

    index: PortAudio's number for it, which changes from boot to boot. channels: how many it records.
    native_rate_hz: the rate that it prefers.
    """

    index: int
    name: str
    channels: int
    native_rate_hz: int
    is_default: bool


def portaudio() -> Any:
    """Return the sounddevice module, imported late so that a machine without PortAudio can still play clips.

    Raises:
        UnavailableError: PortAudio is not installed.
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
    """Return the sound cards that can record, in PortAudio's order.

    Raises:
        UnavailableError: PortAudio is not installed.
    """
    sounddevice = portaudio()
    default_index = sounddevice.default.device[0]
    if default_index < 0:  # PortAudio's own default
        default_index = next((api["default_input_device"] for api in sounddevice.query_hostapis()), -1)
    return tuple(
        SoundDevice(
            index=device["index"],
            name=device["name"],
            channels=device["max_input_channels"],
            native_rate_hz=round(device["default_samplerate"]),
            is_default=device["index"] == default_index,
        )
        for device in sounddevice.query_devices()
        if device["max_input_channels"] > 0
    )


def choose_device(devices: Sequence[SoundDevice], wanted: str | None) -> SoundDevice:
    """Return the device of that name, or whose name alone holds `wanted` (any case); None is the system's default.

    Raises:
        UnavailableError: there is none, no such one, or several that it could be.
    """
    if not devices:
        raise UnavailableError(
            "no sound card that can record was found; expected one; connect it, and see `arecord --list-devices` "
            "(the user must be in the group `audio`)"
        )
    names = ", ".join(repr(device.name) for device in devices)
    if wanted is None:
        for device in devices:
            if device.is_default:
                return device
        raise UnavailableError(f"the system has no default sound card; expected the name of one; use one of {names}")
    for device in devices:
        if device.name == wanted:
            return device
    matches = [device for device in devices if wanted.casefold() in device.name.casefold()]
    if len(matches) == 1:
        return matches[0]
    if matches:
        found = ", ".join(repr(device.name) for device in matches)
        raise UnavailableError(
            f"sound card {wanted!r} could be any of {found}; expected a part of one name alone; give more of the name"
        )
    close = difflib.get_close_matches(wanted, [device.name for device in devices], n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UnavailableError(f"no sound card is called {wanted!r}; {hint}expected (a part of) one of {names}")


def takes_rate(device: SoundDevice, channels: int, rate_hz: int = SAMPLE_RATE_HZ) -> bool:
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

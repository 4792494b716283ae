"""Which sound card a name means."""

import sys

import pytest

from edge_asd.capture import ClipPlayer, SoundCard, SoundDevice
from edge_asd.capture.devices import choose_device
from edge_asd.errors import UnavailableError


def card(index: int, name: str, *, is_default: bool = False) -> SoundDevice:
    """A sound card."""
    return SoundDevice(index=index, name=name, channels=2, native_rate_hz=48_000, is_default=is_default)


CARDS = (
    card(0, "USB Audio Device: - (hw:1,0)"),
    card(3, "USB Audio Device: - (hw:2,0)"),
    card(4, "UMC404HD: USB (hw:3,0)"),
    card(5, "UMC404HD", is_default=True),
)


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        ("UMC404HD: USB (hw:3,0)", 4),
        ("UMC404HD", 5),  # the whole name of one wins over a part of another's
        ("umc404hd: usb", 4),
        ("hw:2,0", 3),
        (None, 5),
    ],
)
def test_a_name_or_a_part_of_one_name_chooses_a_card(wanted, index):
    """A card is chosen by its whole name, by a part that only its name holds, or as the default."""
    assert choose_device(CARDS, wanted).index == index


@pytest.mark.parametrize(
    ("devices", "wanted", "text"),
    [
        (CARDS, "USB Audio", r"'USB Audio' could be any of .*hw:1,0.*hw:2,0.*; expected .*; give more of the name"),
        (CARDS, "UMC204HD", r"no sound card is called 'UMC204HD'; did you mean 'UMC404HD'\? expected .*hw:1,0"),
        (CARDS, "0", r"'0' could be any of"),  # never the card with that number
        (CARDS[:3], None, r"no default sound card; expected the name of one; use one of 'USB Audio"),
        ((), None, r"no sound card that can record was found; expected one; connect it"),
        ((), "USB", r"no sound card that can record was found"),
    ],
)
def test_a_name_that_means_no_card_is_an_error_that_lists_them(devices, wanted, text):
    """No card, no such card or several: the error says which there are and what to do."""
    with pytest.raises(UnavailableError, match=text):
        choose_device(devices, wanted)


class NoPortAudio:
    """An importer without PortAudio's library, as sounddevice sees it."""

    def find_spec(self, name, path=None, target=None):  # noqa: ARG002 - the importer's protocol
        """Fail as sounddevice does."""
        if name == "sounddevice":
            raise OSError("PortAudio library not found")


def test_without_portaudio_a_card_is_an_error_and_clips_still_play(monkeypatch, tmp_path):
    """A machine without PortAudio says how to install it when a card is asked for, and plays clips."""
    import numpy as np
    import soundfile

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NoPortAudio(), *sys.meta_path])
    with pytest.raises(UnavailableError, match=r"PortAudio is not installed .*apt install libportaudio2"):
        SoundCard(None, [0])
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 16_000)
    assert len(list(ClipPlayer([tmp_path / "a.wav"], speed=100.0, repeat=False))) == 1

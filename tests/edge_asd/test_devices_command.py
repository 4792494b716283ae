"""`edge-asd devices`: what a technician sees of the sound cards."""

import json

import pytest

from edge_asd.capture.devices import SoundDevice
from edge_asd.cli import main
from edge_asd.commands import devices
from edge_asd.errors import UnavailableError

CARDS = (
    SoundDevice(index=0, name="UMC404HD [rev 2]", channels=4, native_rate_hz=48_000, is_default=True),
    SoundDevice(
        index=2,
        name="USB Audio: -",
        alsa_id="Device",
        usb_path="1-2.3",
        channels=1,
        native_rate_hz=44_100,
        is_default=False,
    ),
    SoundDevice(index=3, name="Busy", channels=2, native_rate_hz=48_000, is_default=False),
)


@pytest.fixture
def cards(monkeypatch):
    """Three cards: one that takes 16 kHz, one that does not, and one that another program holds."""

    def takes_rate(device: SoundDevice, channels: int, rate_hz: int) -> bool:
        assert (channels, rate_hz) == (1, 16_000)
        if device.name == "Busy":
            raise UnavailableError("sound card 'Busy' cannot be opened (Device unavailable)")
        return device.native_rate_hz == 48_000

    monkeypatch.setattr(devices, "list_devices", lambda: CARDS)
    monkeypatch.setattr(devices, "takes_rate", takes_rate)


@pytest.mark.usefixtures("cards")
def test_cards_are_shown_with_channels_and_rates(capsys):
    """The table has each card's name, which is the default, its channels, its rate and what becomes of 16 kHz."""
    assert main(["devices"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "UMC404HD [rev 2] (default) - - 4 48000 Hz directly" in out
    assert "USB Audio: - Device 1-2.3 1 44100 Hz resampled" in out
    assert "sound card 'Busy' cannot be opened" in out


@pytest.mark.usefixtures("cards")
def test_json_is_all_of_stdout(capsys):
    """With --json, stdout is one JSON list."""
    assert main(["devices", "--json"]) == 0
    first, second, busy = json.loads(capsys.readouterr().out)
    assert first == {
        "name": "UMC404HD [rev 2]",
        "alsa_id": None,
        "usb_path": None,
        "channels": 4,
        "native_rate_hz": 48_000,
        "takes_16_khz": True,
        "is_default": True,
        "trouble": None,
    }
    assert (second["alsa_id"], second["usb_path"]) == ("Device", "1-2.3")
    assert (second["takes_16_khz"], busy["takes_16_khz"]) == (False, None)


def test_no_card_is_said_on_stderr(monkeypatch, capsys):
    """A machine without a card is no error; stdout stays empty, or an empty list in JSON."""
    monkeypatch.setattr(devices, "list_devices", tuple)
    assert main(["devices"]) == 0
    out, err = capsys.readouterr()
    assert (out, "no sound card that can record" in err) == ("", True)
    assert main(["devices", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []

"""`edge-asd devices`: what a technician sees of the sound cards."""

import json

import pytest

from edge_asd.capture.devices import SoundDevice
from edge_asd.capture.survey import SurveyedCard
from edge_asd.cli import main
from edge_asd.commands import devices


def card(name: str, *, channels: int, takes_16_khz: bool | None, trouble: str | None = None, **facts) -> SurveyedCard:
    """A sound card as it was found."""
    known = {"native_rate_hz": 48_000, "is_default": False, **facts}
    return SurveyedCard(
        device=SoundDevice(index=7, name=name, channels=channels, **known), takes_16_khz=takes_16_khz, trouble=trouble
    )


@pytest.fixture
def cards(monkeypatch):
    """Three cards: one that takes 16 kHz, one that does not, and one that another program holds."""
    found = (
        card("UMC404HD [rev 2]", channels=4, takes_16_khz=True, is_default=True),
        card("USB Audio: -", channels=1, takes_16_khz=False, alsa_id="Device", usb_path="1-2.3", native_rate_hz=44_100),
        card("Busy", channels=2, takes_16_khz=None, trouble="sound card 'Busy' cannot be opened (Device unavailable)"),
    )
    monkeypatch.setattr(devices, "survey", lambda: found)


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
    monkeypatch.setattr(devices, "survey", tuple)
    assert main(["devices"]) == 0
    out, err = capsys.readouterr()
    assert (out, "no sound card that can record" in err) == ("", True)
    assert main(["devices", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []

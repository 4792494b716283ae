"""The list of sound cards, asked in a process of its own."""

import json
from pathlib import Path

import pytest

from edge_asd.capture.survey import survey
from edge_asd.errors import UnavailableError


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A function that says what the sound library of that process does."""
    path = tmp_path / "plan.json"
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "fake_sound"))
    monkeypatch.setenv("FAKE_SOUND", str(path))
    return lambda **behaviour: path.write_text(json.dumps(behaviour))


@pytest.mark.parametrize(
    ("behaviour", "takes_16_khz", "trouble"),
    [
        ({}, True, None),
        ({"refuses_hz": [16_000]}, False, None),
        ({"busy": True}, None, "sound card 'fake' cannot be opened (Device unavailable)"),
    ],
)
def test_a_card_is_listed_with_what_it_can(plan, behaviour, takes_16_khz, trouble):
    """Whether it takes 16 kHz, and where it cannot be opened why."""
    plan(channels=4, native_rate_hz=44_100, **behaviour)
    (card,) = survey()
    assert (card.device.name, card.device.channels, card.device.native_rate_hz) == ("fake", 4, 44_100)
    assert card.takes_16_khz is takes_16_khz
    assert (card.trouble or "").startswith(trouble or "")


@pytest.mark.parametrize(
    ("behaviour", "text"),
    [
        ({"importing": "fail"}, "PortAudio is not installed .*apt install libportaudio2"),
        ({"importing": "hang"}, "did not list the sound cards within 3 s; .*hangs: restart it, or unplug the card"),
        ({"channels": "many"}, "ended with code 1: .*TypeError"),
    ],
    ids=str,
)
def test_a_library_that_fails_or_hangs_is_an_error(plan, behaviour, text):
    """What is wrong is said within the time; nothing hangs."""
    plan(**behaviour)
    with pytest.raises(UnavailableError, match=f"(?s){text}"):
        survey(timeout_s=3.0)

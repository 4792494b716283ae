"""For tests of the recording process: a card that behaves as planned, and sources that record it."""

import json
from pathlib import Path

import pytest

from edge_asd.capture import sound_card as sound_card_module
from edge_asd.capture.sound_card import SoundCard
from tests.edge_asd.capture.kit import FAKE, LONG


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A function that says how the card behaves from the next start of a process on."""
    path = tmp_path / "plan.json"
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "fake_sound"))
    monkeypatch.setenv("FAKE_SOUND", str(path))
    monkeypatch.setattr(sound_card_module, "_BACK_OFF_S", (0.1,))

    def write(**behaviour):
        path.write_text(json.dumps(behaviour))

    write()
    return write


@pytest.fixture
def open_card(plan):  # noqa: ARG001 - the card is a fake one
    """A function that makes sources; they are closed at the end."""
    made = []

    def make(choice=FAKE, channels=(0,), patience=LONG):
        made.append(SoundCard(choice, channels, patience=patience))
        return made[-1]

    yield make
    for card in made:
        card.close()

"""A card that stops, hangs, or is not there: told with its reason, tried again, heard again."""

import re
from itertools import islice

import pytest

from edge_asd.capture import sound_card as sound_card_module
from edge_asd.capture.clips import SAMPLE_RATE_HZ
from edge_asd.capture.recorder import Patience, Recorder
from tests.edge_asd.capture.kit import LONG, SHORT, is_block, is_silence, until


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ({"blocks": 5, "then": "end"}, "sound card 'fake' ended its stream; check its cable"),
        ({"blocks": 5, "then": "hang"}, "has not delivered sound for 1 s; expected sound all the time"),
        ({"blocks": 5, "then": "abort"}, "the process that records sound card 'fake' was killed by SIGABRT"),
        ({"blocks": 5, "then": "exit"}, "ended with code 3: the driver says goodbye"),
    ],
    ids=lambda value: value.get("then") if isinstance(value, dict) else "",
)
def test_a_card_that_stops_is_told_and_heard_again(plan, open_card, behaviour, reason):
    """Whatever takes the sound away: one piece of news says since when and why, then sound is back with its gap."""
    plan(**behaviour)
    card = open_card(channels=(0, 1), patience=SHORT if "hang" in behaviour.values() else LONG)
    heard = iter(card)
    before, silence = until(heard, is_silence)
    assert len(before) == 5
    assert reason in silence.reason
    assert silence.since_monotonic_s == before[-1][0].end_monotonic_s
    assert silence.since_utc_s == before[-1][0].end_utc_s
    plan()
    _, (left, right) = until(heard, is_block)
    began_s = left.end_monotonic_s - len(left.samples) / SAMPLE_RATE_HZ
    assert left.lost_samples == right.lost_samples
    assert left.lost_samples / SAMPLE_RATE_HZ == pytest.approx(began_s - silence.since_monotonic_s, abs=0.001)
    assert card.lost_samples == left.lost_samples
    assert card.restarts >= 1
    assert [each.lost_samples for each, _ in islice(heard, 3)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ({"importing": "fail"}, r"PortAudio is not installed .*apt install libportaudio2"),
        ({"importing": "hang"}, "sound card 'fake' has not answered in time"),
        ({"name": "other"}, "no sound card is called 'fake'; expected .*'other'; connect it, or correct the name"),
        ({"channels": 1}, r"has 1 channel\(s\); channel 1 was asked for; expected 0 to 0; choose another"),
        ({"busy": True}, r"'fake' cannot be opened \(Device unavailable\); expected to record from it; see whether"),
        ({"opening": "fail"}, r"'fake' cannot be opened \(Device unavailable\); see whether another program has it"),
        ({"opening": "hang"}, "has not answered in time"),
        ({"starting": "fail"}, r"'fake' cannot be opened \(Device unavailable\)"),
        ({"starting": "hang"}, "has not delivered sound in time"),
        ({"blocks": 0, "then": "hang"}, "has not delivered sound in time"),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_a_card_that_is_not_there_says_why_and_is_tried_again(plan, open_card, behaviour, reason):
    """A card that cannot be had, or hangs while it is opened, says why and is tried until it can be had."""
    plan(**behaviour)
    card = open_card(channels=(0, 1), patience=SHORT if "hang" in behaviour.values() else LONG)
    heard = iter(card)
    before, silence = until(heard, is_silence)
    assert before == []
    assert re.search(reason, silence.reason), silence.reason
    plan()
    _, (first, _) = until(heard, is_block)
    assert card.restarts >= 1
    assert first.lost_samples > 0


@pytest.fixture
def in_turns(plan, monkeypatch):
    """A function that names the card anew at each start of a process; at the end it is there."""

    def name(*names):
        left = iter(names)

        class InTurns(Recorder):
            def __init__(self, *arguments, **settings):
                plan(name=next(left, "fake"))
                super().__init__(*arguments, **settings)

        monkeypatch.setattr(sound_card_module, "Recorder", InTurns)

    return name


def test_the_same_reason_is_told_once(open_card, in_turns):
    """However often a card that is away is tried, its absence is told once, and the gap is all of it."""
    in_turns("other", "other", "other")
    card = open_card()
    news, (first,) = until(iter(card), is_block)
    (silence,) = news
    assert card.restarts == 3
    began_s = first.end_monotonic_s - len(first.samples) / SAMPLE_RATE_HZ
    assert first.lost_samples / SAMPLE_RATE_HZ == pytest.approx(began_s - silence.since_monotonic_s, abs=0.001)


def test_a_reason_that_changes_is_told(plan, open_card):
    """A card that ends its stream and then is not found: both reasons, the same beginning."""
    plan(blocks=5, then="end")
    heard = iter(open_card())
    _, ended = until(heard, is_silence)
    plan(name="other")
    gone = next(heard)
    assert "no sound card is called 'fake'" in gone.reason
    assert gone.since_monotonic_s == ended.since_monotonic_s
    plan(starting="fail")
    assert "cannot be opened" in next(heard).reason


def test_reasons_that_alternate_are_told_once_each(open_card, in_turns, monkeypatch):
    """A card that fails in one way after another does not fill the site with news: each once, and only so many."""
    monkeypatch.setattr(sound_card_module, "_MAX_REASONS", 3)
    in_turns("a", "b", "a", "c", "d")
    news, _ = until(iter(open_card()), is_block)
    assert [re.search("one of '(.)'", each.reason)[1] for each in news] == ["a", "b", "c"]


def test_a_card_is_given_longer_at_first_and_now_and_then(plan, open_card, monkeypatch):
    """Until it is heard for the first time, and for one of three attempts after that: a slow machine is not hung."""
    given = []

    class Noted(Recorder):
        def __init__(self, *arguments, patience, **settings):
            given.append(patience.open_s)
            super().__init__(*arguments, patience=patience, **settings)

    monkeypatch.setattr(sound_card_module, "Recorder", Noted)
    plan(name="other")
    card = open_card(patience=Patience(open_s=10.0))
    heard = iter(card)
    until(heard, is_silence)
    plan(blocks=1, then="end")
    for _ in range(7):
        until(heard, is_block)
    assert given == [40.0, 40.0, 40.0, 10.0, 10.0, 40.0, 10.0, 10.0]

"""What becomes of what PortAudio's callback is told: losses, times, a stream that ends."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from edge_asd.capture import SoundCard
from edge_asd.capture import sound_card as sound_card_module
from edge_asd.errors import TemporaryError, UnavailableError

RATE_HZ = 16_000
N = 1_920


class FakeSoundDevice:
    """As much of sounddevice as a card needs; the test plays PortAudio's thread."""

    default = SimpleNamespace(device=(-1, -1))

    class PortAudioError(Exception):
        """As sounddevice's."""

    def __init__(self, *, start_error: str | None = None):
        self._start_error = start_error
        self.closed = threading.Event()

    def query_hostapis(self):
        return ({"default_input_device": 0},)

    def query_devices(self):
        return [{"index": 0, "name": "fake", "max_input_channels": 3, "default_samplerate": 48_000.0}]

    def check_input_settings(self, **settings):
        pass

    def RawInputStream(self, *, callback, finished_callback, **settings):  # noqa: N802 - sounddevice's name
        self.settings = settings
        self._callback = callback
        self.end = finished_callback
        return SimpleNamespace(start=self._start, close=self.closed.set)

    def _start(self):
        if self._start_error:
            raise self.PortAudioError(self._start_error)

    def deliver(self, *, value: float = 0.1, overflow: bool = False, age_s: float = 0.0, has_time: bool = True) -> None:
        """Call back with one block, the last of whose samples was heard `age_s` ago."""
        channels = np.arange(1, self.settings["channels"] + 1, dtype=np.float32)
        samples = np.tile(np.float32(value) * channels, (N, 1))  # (N, channels)
        now_s = 1e6
        times = SimpleNamespace(currentTime=now_s, inputBufferAdcTime=now_s - N / RATE_HZ - age_s if has_time else 0.0)
        self._callback(samples.data, N, times, SimpleNamespace(input_overflow=overflow))
        samples[:] = np.nan  # the card reuses its buffer


@pytest.fixture
def fake(monkeypatch) -> FakeSoundDevice:
    """A card of three channels in the place of PortAudio."""
    return put_in_place(monkeypatch, FakeSoundDevice())


def put_in_place(monkeypatch, fake: FakeSoundDevice) -> FakeSoundDevice:
    """Let the capture see the fake."""
    monkeypatch.setattr(sound_card_module, "portaudio", lambda: fake)
    monkeypatch.setattr("edge_asd.capture.devices.portaudio", lambda: fake)
    return fake


def test_the_wanted_channels_come_in_the_order_asked_for(fake):
    """Of three channels, the third and the first are taken, and the card's buffer may change meanwhile."""
    card = SoundCard("fake", [2, 0])
    fake.deliver(value=0.1)
    third, first = next(iter(card))
    np.testing.assert_allclose(third.samples, 0.3, rtol=1e-6)
    np.testing.assert_allclose(first.samples, 0.1, rtol=1e-6)


@pytest.mark.parametrize(("channels", "opened"), [([0], 2), ([1], 2), ([2], 3)])
def test_never_one_channel_of_several_is_opened(fake, channels, opened):
    """A sound server mixes all channels into one that is opened alone; two or more are opened."""
    SoundCard("fake", channels)
    assert fake.settings["channels"] == opened


def test_an_overrun_of_the_card_is_lost_sound_of_the_next_block(fake, monkeypatch):
    """When the card reports an overrun, the time that is missing is the loss."""
    now_s = [50.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    card = SoundCard("fake", [0])
    fake.deliver()
    now_s[0] += N / RATE_HZ + 0.5
    fake.deliver(overflow=True)
    now_s[0] += N / RATE_HZ
    fake.deliver()
    blocks = iter(card)
    lost = [next(blocks)[0].lost_samples for _ in range(3)]
    assert lost == [0, pytest.approx(8_000, abs=1), 0]
    assert card.lost_samples == lost[1]


def test_an_overrun_without_a_measurable_gap_is_still_a_gap(fake, monkeypatch):
    """At least one sample is lost where the card says that some were."""
    monkeypatch.setattr(time, "monotonic", lambda: 50.0)
    card = SoundCard("fake", [0])
    fake.deliver()
    fake.deliver(overflow=True)
    blocks = iter(card)
    assert [next(blocks)[0].lost_samples for _ in range(2)] == [0, 1]


def test_blocks_that_find_no_room_are_lost_sound_of_the_next(fake, monkeypatch):
    """A full queue drops the newest blocks; the next that finds room says how much that was."""
    monkeypatch.setattr(sound_card_module, "_QUEUE_S", 0.36)  # three blocks
    card = SoundCard("fake", [0])
    for _ in range(5):
        fake.deliver()
    blocks = iter(card)
    heard = [next(blocks)[0] for _ in range(3)]
    fake.deliver()
    heard.append(next(blocks)[0])
    assert [block.lost_samples for block in heard] == [0, 0, 0, 2 * N]
    assert card.lost_samples == 2 * N


@pytest.mark.parametrize(
    ("told", "age_s"),
    [({"age_s": 0.3}, 0.3), ({"age_s": -5.0}, 0.0), ({"has_time": False}, 0.0)],
    ids=["told", "ahead of time", "left out"],
)
def test_a_block_ended_as_long_ago_as_the_card_says(fake, told, age_s):
    """The end is carried over to both clocks; a card that says nothing of use, or a time to come, means now."""
    card = SoundCard("fake", [0])
    fake.deliver(**told)
    (block,) = next(iter(card))
    assert block.end_monotonic_s == pytest.approx(time.monotonic() - age_s, abs=0.1)
    assert block.end_utc_s == pytest.approx(time.time() - age_s, abs=0.1)


def test_blocks_that_arrive_in_bursts_end_evenly(fake, monkeypatch):
    """Several blocks may arrive at once; their ends are as far apart as their sound, and none is ahead of time."""
    now_s = [50.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    card = SoundCard("fake", [0])
    arrivals_s = []
    for _ in range(20):
        now_s[0] += 3 * N / RATE_HZ
        for _ in range(3):
            fake.deliver()
            arrivals_s.append(now_s[0])
    blocks = iter(card)
    ends_s = np.array([next(blocks)[0].end_monotonic_s for _ in range(60)])
    assert np.all(ends_s <= arrivals_s)
    np.testing.assert_allclose(np.diff(ends_s)[3:], N / RATE_HZ, rtol=3e-3)


def test_ends_follow_a_clock_that_is_slow_and_a_silent_loss(fake, monkeypatch):
    """A card whose clock is 0.05 % slow is followed, and so is one that lost 3 s without saying so."""
    now_s = [50.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    card = SoundCard("fake", [0])
    blocks = iter(card)
    for number in range(500):
        now_s[0] += 1.0005 * N / RATE_HZ + (3.0 if number == 250 else 0.0)
        fake.deliver()
        (block,) = next(blocks)
        assert block.end_monotonic_s == pytest.approx(now_s[0], abs=1e-6)


def test_a_stream_that_ends_by_itself_is_a_fault_to_try_again(fake):
    """A card that is pulled out ends its stream: a TemporaryError at once, and the card is let go."""
    card = SoundCard("fake", [0])
    fake.deliver()
    fake.end()
    blocks = iter(card)
    next(blocks)
    with pytest.raises(TemporaryError, match="sound card 'fake' ended its stream; expected sound all the time"):
        next(blocks)
    assert fake.closed.is_set()


def test_a_card_that_says_nothing_is_a_fault_to_try_again(fake):
    """Silence of the driver, not of the room, ends in a TemporaryError after the stall time."""
    card = SoundCard("fake", [0], stall_s=0.05)
    with pytest.raises(TemporaryError, match=r"delivered nothing for 0\.05 s"):
        next(iter(card))
    assert fake.closed.is_set()


def test_closing_with_a_full_queue_ends_the_iteration(fake, monkeypatch):
    """A reader that is behind when the card is closed gets nothing more."""
    monkeypatch.setattr(sound_card_module, "_QUEUE_S", 0.12)
    card = SoundCard("fake", [0])
    fake.deliver()
    fake.deliver()
    card.close()
    assert list(card) == []
    assert fake.closed.is_set()


def test_a_card_that_does_not_start_is_unavailable(monkeypatch):
    """A card that another program took meanwhile is an UnavailableError when play begins."""
    fake = put_in_place(monkeypatch, FakeSoundDevice(start_error="Device unavailable"))
    card = SoundCard(None, [0])
    with pytest.raises(UnavailableError, match=r"'fake' cannot be opened \(Device unavailable\)"):
        next(iter(card))
    assert fake.closed.is_set()

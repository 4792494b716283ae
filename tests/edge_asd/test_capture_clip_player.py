"""Recorded clips as a source of sound."""

import threading
import time
from itertools import islice

import numpy as np
import pytest
import soundfile

from edge_asd.capture.clip_player import ClipPlayer
from edge_asd.capture.clips import SAMPLE_RATE_HZ, read_clip
from edge_asd.errors import ClipError


class Clock:
    """Time that passes only in `wait`, and by `work_s` at each look."""

    def __init__(self, work_s: float = 0.0) -> None:
        self.now_s = 100.0
        self.work_s = work_s

    def __call__(self) -> float:
        self.now_s += self.work_s
        return self.now_s

    def wait(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clips(tmp_path):
    """Three clips of odd lengths and different rates."""
    rng = np.random.default_rng(1)
    for name, rate_hz, n in (("a.wav", 16_000, 20_001), ("b.flac", 44_100, 50_000), ("c.wav", 16_000, 7)):
        soundfile.write(tmp_path / name, rng.uniform(-0.5, 0.5, n), rate_hz)
    return [tmp_path / "a.wav", tmp_path / "b.flac", tmp_path / "c.wav"]


def player(paths, *, clock: Clock, speed: float = 1.0, repeat: bool = False, channel: int | None = None) -> ClipPlayer:
    """A player on that clock."""
    return ClipPlayer(
        paths, speed=speed, repeat=repeat, channel=channel, clock=clock, utc_clock=lambda: 5_000.0, wait=clock.wait
    )


def test_clips_are_joined_without_a_gap(clips):
    """The blocks hold every sample of every clip in order, and no gap is reported."""
    source = player(clips, clock=Clock())
    blocks = [block for (block,) in source]
    expected = np.concatenate([read_clip(clip) for clip in clips])
    np.testing.assert_array_equal(np.concatenate([block.samples for block in blocks]), expected)
    assert {block.lost_samples for block in blocks} == {0}
    assert (source.live, source.lost_samples, source.name) == (False, 0, "clip a.wav and 2 more")


def test_block_times_are_positions_in_the_sound_from_the_start_of_play(clips):
    """A block ends its samples' length after the start of play by both clocks, whatever the speed."""
    blocks = [block for (block,) in player(clips, clock=Clock(), speed=20.0)]
    ends = np.cumsum([len(block.samples) for block in blocks]) / SAMPLE_RATE_HZ
    np.testing.assert_allclose([block.end_monotonic_s for block in blocks], 100.0 + ends)
    np.testing.assert_allclose([block.end_utc_s for block in blocks], 5_000.0 + ends)


@pytest.mark.parametrize("speed", [1.0, 20.0])
def test_sound_comes_at_its_speed(clips, speed):
    """Each block comes when its last sample is due, not earlier and not later."""
    clock = Clock()
    for (block,) in player(clips, clock=clock, speed=speed):
        assert clock.now_s - 100.0 == pytest.approx((block.end_monotonic_s - 100.0) / speed)


def test_a_slow_reader_loses_nothing_and_is_not_waited_for(clips):
    """Where reading takes longer than the sound, every sample still comes, without further waits."""
    clock = Clock(work_s=10.0)
    waits: list[float] = []
    source = ClipPlayer(clips, speed=1.0, repeat=False, clock=clock, wait=waits.append)
    n_samples = sum(len(block.samples) for (block,) in source)
    assert n_samples == sum(len(read_clip(clip)) for clip in clips)
    assert waits == []


def test_repeat_starts_again_and_time_goes_on(clips):
    """After the last clip comes the first, and positions keep growing."""
    source = player(clips[:1], clock=Clock(), repeat=True)
    blocks = [block for (block,) in islice(source, 40)]
    samples = np.concatenate([block.samples for block in blocks])
    once = read_clip(clips[0])
    assert len(samples) > 2 * len(once)
    np.testing.assert_array_equal(samples[len(once) : 2 * len(once)], once)
    assert np.all(np.diff([block.end_monotonic_s for block in blocks]) > 0)


def test_closing_from_another_thread_ends_a_wait(clips):
    """A player that waits for its next block ends as soon as it is closed."""
    source = ClipPlayer(clips, speed=0.001, repeat=False)  # 2 minutes to its first block
    closer = threading.Timer(0.2, source.close)
    closer.start()
    began_s = time.monotonic()
    assert list(source) == []
    assert time.monotonic() - began_s < 5
    closer.join()


def test_a_folder_is_played_by_name(clips):
    """A folder's clips are played in the order of their names."""
    samples = np.concatenate([block.samples for (block,) in player([clips[0].parent], clock=Clock())])
    np.testing.assert_array_equal(samples, np.concatenate([read_clip(clip) for clip in clips]))


def test_a_clip_that_cannot_be_used_is_refused_before_anything_plays(clips, tmp_path):
    """The header of every clip is checked at once."""
    soundfile.write(tmp_path / "z.wav", np.zeros(100), 8_000)
    with pytest.raises(ClipError, match="8000 Hz"):
        player([*clips, tmp_path / "z.wav"], clock=Clock())


def test_the_chosen_channel_plays(tmp_path):
    """Of a clip with two channels, the chosen one is played; without a choice it is refused."""
    stereo = np.stack([np.zeros(5_000), np.full(5_000, 0.5)], axis=1)
    soundfile.write(tmp_path / "s.wav", stereo, SAMPLE_RATE_HZ)
    samples = np.concatenate([b.samples for (b,) in player([tmp_path / "s.wav"], clock=Clock(), channel=1)])
    np.testing.assert_allclose(samples, 0.5, atol=1e-4)
    with pytest.raises(ClipError, match="choose one from 0 to 1"):
        player([tmp_path / "s.wav"], clock=Clock())

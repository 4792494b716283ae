"""From what a sound card delivers to blocks at 16 kHz."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.capture.blocks import BlockMaker
from edge_asd.capture.clips import SAMPLE_RATE_HZ
from edge_asd.types import Block


def deliver(rate_hz: int, sizes: list[int], lost: list[int], *, channels: int = 1) -> list[tuple[Block, ...]]:
    """Blocks of a 440 Hz tone (louder on each further channel) in deliveries of those sizes, with losses ahead."""
    maker = BlockMaker(rate_hz, channels)
    position = 0
    made = []
    for size, missing in zip(sizes, lost, strict=True):
        position += missing
        tone = np.sin(2 * np.pi * 440 * np.arange(position, position + size) / rate_hz)
        position += size
        samples = np.stack([tone * (channel + 1) / 10 for channel in range(channels)], axis=1).astype(np.float32)
        end_s = position / rate_hz
        made.append(maker.blocks(samples, end_monotonic_s=end_s, end_utc_s=1e9 + end_s, lost_samples=missing))
    return made


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
def test_each_channel_is_resampled_and_joins_without_a_break(rate_hz):
    """The blocks of a channel join to its tone at 16 kHz."""
    made = deliver(rate_hz, [rate_hz // 8] * 16, [0] * 16, channels=2)
    for channel in range(2):
        samples = np.concatenate([blocks[channel].samples for blocks in made])
        expected = (channel + 1) / 10 * np.sin(2 * np.pi * 440 * np.arange(len(samples)) / SAMPLE_RATE_HZ)
        np.testing.assert_allclose(samples[500:-500], expected[500:-500], atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    rate_hz=st.sampled_from([16_000, 22_050, 44_100, 48_000, 96_000]),
    deliveries=st.lists(st.tuples(st.integers(1, 20_000), st.sampled_from([0, 0, 1, 700, 100_000])), min_size=1),
)
def test_a_block_ends_where_its_sound_ends_whatever_was_lost(rate_hz, deliveries):
    """Heard and lost samples add up to each block's end, within a sample a gap."""
    sizes, lost = zip(*deliveries, strict=True)
    position, gaps = 0, 0
    for (block,), missing in zip(deliver(rate_hz, list(sizes), list(lost)), lost, strict=True):
        assert (block.lost_samples > 0) == (missing > 0)
        gaps += missing > 0
        position += block.lost_samples + len(block.samples)
        assert block.end_monotonic_s * SAMPLE_RATE_HZ == pytest.approx(position, abs=1.01 * (gaps + 1))
        assert block.end_utc_s - block.end_monotonic_s == pytest.approx(1e9)


def test_nothing_of_the_sound_ahead_of_a_gap_leaks_behind_it():
    """After a gap the resampler starts afresh: silence behind it is silent from its first sample."""
    maker = BlockMaker(48_000, 1)
    loud = np.ones((4_800, 1), dtype=np.float32)
    maker.blocks(loud, end_monotonic_s=0.1, end_utc_s=0.1, lost_samples=0)
    (block,) = maker.blocks(0 * loud, end_monotonic_s=1.1, end_utc_s=1.1, lost_samples=43_200)
    assert not block.samples.any()

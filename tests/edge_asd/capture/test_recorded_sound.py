"""What a recording process delivers: the wanted channels at 16 kHz, with what was lost."""

import time
from itertools import islice

import numpy as np
import pytest

from edge_asd.capture.clips import SAMPLE_RATE_HZ


def test_the_wanted_channels_come_in_the_order_asked_for(plan, open_card):
    """Of three channels, the third and the first are taken, each block at its place in time."""
    plan(channels=3, value=0.1)
    blocks = list(islice(open_card(channels=(2, 0)), 10))
    for third, first in blocks:
        np.testing.assert_allclose(third.samples, 0.3, rtol=1e-6)
        np.testing.assert_allclose(first.samples, 0.1, rtol=1e-6)
        assert (third.lost_samples, first.lost_samples) == (0, 0)
    assert sum(len(block.samples) for block, _ in blocks) == 10 * 640
    ends_s = [block.end_monotonic_s for block, _ in blocks]
    assert np.median(np.diff(ends_s)) == pytest.approx(0.04, abs=0.005)
    assert ends_s[-1] == pytest.approx(time.monotonic(), abs=1.0)
    assert blocks[-1][0].end_utc_s == pytest.approx(time.time(), abs=1.0)


def test_a_card_that_refuses_16_khz_is_resampled(plan, open_card):
    """A card of 44.1 kHz alone is recorded at 44.1 kHz; blocks have 16 kHz."""
    plan(refuses_hz=[16_000], native_rate_hz=44_100, value=0.2)
    card = open_card()
    blocks = [block for (block,) in islice(card, 50)]
    heard_s = sum(len(block.samples) for block in blocks) / SAMPLE_RATE_HZ
    assert heard_s == pytest.approx(2.0, abs=0.05)
    np.testing.assert_allclose(np.concatenate([block.samples for block in blocks])[2_000:], 0.2, atol=1e-3)
    assert card.lost_samples == 0


def test_an_overrun_is_a_gap_and_counted(plan, open_card):
    """What the driver says it lost stands ahead of the block after it."""
    plan(overrun_at=3)
    card = open_card()
    lost = [block.lost_samples for (block,) in islice(card, 6)]
    assert [n > 0 for n in lost] == [False, False, False, True, False, False]
    assert (card.overruns, card.lost_samples) == (1, sum(lost))


@pytest.mark.slow
def test_a_late_reader_loses_sound_and_is_told_how_much(open_card):
    """What found no room in the ring is the next block's lost sound; heard and lost make up the time."""
    card = open_card()
    heard = iter(card)
    (first,) = next(heard)
    time.sleep(6.5)  # the ring holds 5 s
    read = [next(heard)[0] for _ in range(150)]
    lost = sum(block.lost_samples for block in read)
    assert lost == card.lost_samples > SAMPLE_RATE_HZ // 2
    heard_samples = sum(len(block.samples) for block in read)
    between_s = read[-1].end_monotonic_s - first.end_monotonic_s
    assert (heard_samples + lost) / SAMPLE_RATE_HZ == pytest.approx(between_s, abs=0.1)

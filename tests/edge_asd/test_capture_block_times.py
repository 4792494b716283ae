"""When a card's blocks ended, and what is missing between them, by their arrivals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.capture.block_times import BlockTimes

RATE_HZ = 16_000
N = 640
BLOCK_S = N / RATE_HZ


def place(times: BlockTimes, arrived_s: float, **told) -> tuple[float, int]:
    """The end of the next block, and what is missing ahead of it."""
    return times.place(N, arrived_s=arrived_s, **{"age_s": 0.0, "lost_samples": 0, "overrun": False, **told})


def test_a_block_ended_as_long_before_its_arrival_as_the_card_says():
    """The age that the driver tells is taken off."""
    assert place(BlockTimes(RATE_HZ), 50.0, age_s=0.3) == (pytest.approx(49.7), 0)


def test_an_overrun_is_the_time_that_is_missing():
    """When the card reports an overrun, what is missing is the time between, less the block."""
    times = BlockTimes(RATE_HZ)
    place(times, 50.0)
    assert place(times, 50.5 + BLOCK_S, overrun=True) == (pytest.approx(50.5 + BLOCK_S), pytest.approx(8_000, abs=1))
    assert place(times, 50.5 + 2 * BLOCK_S)[1] == 0


def test_an_overrun_without_a_measurable_gap_is_still_a_gap():
    """At least one sample is lost where the card says that some were."""
    times = BlockTimes(RATE_HZ)
    place(times, 50.0)
    assert place(times, 50.0, overrun=True) == (50.0, 1)


def test_samples_that_found_no_room_are_passed_on():
    """What the ring dropped is missing, and moves the end of the next block by its time."""
    times = BlockTimes(RATE_HZ)
    place(times, 50.0)
    assert place(times, 50.0 + 6 * BLOCK_S, lost_samples=5 * N) == (pytest.approx(50.0 + 6 * BLOCK_S), 5 * N)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=50))
def test_blocks_that_arrive_in_bursts_end_evenly(bursts):
    """Blocks may arrive several at once; they end as far apart as their sound, never after their arrival, no gap."""
    times = BlockTimes(RATE_HZ)
    arrived_s = 50.0
    place(times, arrived_s)
    ends_s = [arrived_s]
    for burst in bursts:
        arrived_s += burst * BLOCK_S
        for _ in range(burst):
            end_s, lost = place(times, arrived_s)
            assert lost == 0
            assert end_s <= arrived_s + 1e-9
            ends_s.append(end_s)
    np.testing.assert_allclose(np.diff(ends_s), BLOCK_S, atol=1e-3)


def test_a_slow_clock_is_followed():
    """A card whose clock is 0.05 % slow is followed without a gap."""
    times = BlockTimes(RATE_HZ)
    for number in range(5_000):
        arrived_s = 50.0 + 1.0005 * number * BLOCK_S
        assert place(times, arrived_s) == (pytest.approx(arrived_s, abs=1e-6), 0)


@pytest.mark.parametrize("missing_s", [1.5, 3.0])
def test_a_long_silent_loss_is_a_gap_at_once(missing_s):
    """A card that loses more than a second without a word: the gap stands ahead of the next block."""
    times = BlockTimes(RATE_HZ)
    place(times, 50.0)
    end_s, lost = place(times, 50.0 + BLOCK_S + missing_s)
    assert (end_s, lost) == (pytest.approx(50.0 + BLOCK_S + missing_s), pytest.approx(missing_s * RATE_HZ, abs=1))


@given(st.floats(0.12, 0.9))
def test_a_short_silent_loss_is_a_gap_within_a_second(missing_s):
    """A loss that later blocks do not catch up with is a gap of its length, once; times are right from there on."""
    times = BlockTimes(RATE_HZ)
    place(times, 50.0)
    gaps = []
    for number in range(1, 100):
        arrived_s = 50.0 + number * BLOCK_S + missing_s
        end_s, lost = place(times, arrived_s)
        if lost:
            gaps.append((number, lost))
    ((number, lost),) = gaps
    assert number * BLOCK_S == pytest.approx(1.0, abs=0.1)
    assert lost / RATE_HZ == pytest.approx(missing_s, abs=0.01)
    assert end_s == pytest.approx(arrived_s, abs=1e-6)


def test_a_delay_that_is_caught_up_with_is_no_gap():
    """A process that did not get to run for 0.9 s finds all its sound in the driver's buffer: nothing is missing."""
    times = BlockTimes(RATE_HZ)
    place(times, 50.0)
    late = [place(times, 50.0 + max(number * BLOCK_S, 0.9))[1] for number in range(1, 60)]
    assert sum(late) == 0

"""Blocks waiting to be scored: bounded, fair, and honest about what was dropped."""

import itertools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.inbox import Inbox
from edge_asd.types import Block, NoSound


def block(n_samples: int, lost_samples: int = 0) -> Block:
    return Block(samples=np.zeros(n_samples, np.float32), end_monotonic_s=0.0, end_utc_s=0.0, lost_samples=lost_samples)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 5)), min_size=1, max_size=60), st.integers(1, 100))
def test_every_live_sample_is_heard_or_counted_as_lost(sizes: list[tuple[int, int]], max_samples: int) -> None:
    """What a full inbox drops stands as lost samples ahead of what is left, and in the counter."""
    inbox = Inbox(machines=1, max_samples=max_samples)
    for n_samples, lost_samples in sizes:
        inbox.put(0, block(n_samples, lost_samples), live=True)
    ((_, blocks),) = inbox.take(0)
    heard = sum(b.samples.size for b in blocks)
    lost = sum(b.lost_samples for b in blocks)
    assert sum(n + gap for n, gap in sizes) == heard + lost
    assert sum(gap for _, gap in sizes) + inbox.dropped_samples[0] == lost
    assert len(blocks) == 1 or heard <= max_samples


@given(st.lists(st.integers(1, 70), min_size=1, max_size=40), st.integers(1, 100))
def test_nothing_of_a_recording_is_dropped(sizes: list[int], max_samples: int) -> None:
    """Blocks of any sizes, put as long as there is room, come out whole: the bound may be exceeded by the last one."""
    inbox = Inbox(machines=1, max_samples=max_samples)
    heard: list[int] = []
    waiting = 0
    for size in sizes:
        if waiting >= max_samples:
            heard += [b.samples.size for _, blocks in inbox.take(0) for b in blocks]
            waiting = 0
        inbox.put(0, block(size), live=False)
        waiting += size
    ((_, blocks),) = inbox.take(0)
    assert heard + [b.samples.size for b in blocks] == sizes
    assert inbox.dropped_samples == [0]
    assert all(b.lost_samples == 0 for b in blocks)


def silence(number: int) -> NoSound:
    return NoSound(since_monotonic_s=float(number), since_utc_s=0.0, reason="unplugged")


@given(st.lists(st.one_of(st.none(), st.integers(0, 50)), min_size=1, max_size=60), st.integers(1, 100))
def test_silence_keeps_its_place_and_the_latest_is_never_dropped(steps: list[int | None], max_samples: int) -> None:
    """News of silence (None) comes between the blocks it came between; what waits is bounded, and ends with the newest.

    Every sample is heard or counted as lost, with silences among the blocks too.
    """
    inbox = Inbox(machines=1, max_samples=max_samples)
    for number, step in enumerate(steps):
        inbox.put(0, silence(number) if step is None else block(step), live=True)
    ((_, heard),) = inbox.take(0)
    news = [int(each.since_monotonic_s) for each in heard if isinstance(each, NoSound)]
    assert news == sorted(news)
    assert all(steps[number] is None for number in news)
    assert (steps[-1] is None) == isinstance(heard[-1], NoSound)
    assert not any(isinstance(one, NoSound) and isinstance(two, NoSound) for one, two in itertools.pairwise(heard))
    blocks = [each for each in heard if isinstance(each, Block)]
    total = sum(step for step in steps if step is not None)
    assert sum(each.samples.size + each.lost_samples for each in blocks) == total
    after = [sum(1 for step in steps[number:] if step is not None) for number in news]
    assert after == [
        sum(isinstance(each, Block) for each in heard[heard.index(n) :]) for n in heard if isinstance(n, NoSound)
    ]


def test_a_silence_that_is_over_goes_with_the_sound_before_it() -> None:
    """When blocks ahead of a silence are dropped, and sound came back since, lost samples alone tell of it."""
    inbox = Inbox(machines=1, max_samples=20)
    for heard in (block(20), silence(1), block(15, lost_samples=100), block(10)):
        inbox.put(0, heard, live=True)
    ((_, (only,)),) = inbox.take(0)
    assert isinstance(only, Block)
    assert (only.samples.size, only.lost_samples) == (10, 20 + 100 + 15)


def test_machines_take_turns() -> None:
    """A machine that always has sound does not keep the others waiting."""
    inbox = Inbox(machines=3, max_samples=100)
    order = []
    for machine in (0, 1, 2):
        inbox.put(machine, block(10), live=True)
    for _ in range(3):
        ((machine, _),) = inbox.take(0)
        order.append(machine)
        inbox.put(0, block(10), live=True)
    assert sorted(order) == [0, 1, 2]


def test_a_recording_waits_until_there_is_room() -> None:
    """Nothing of a recording is dropped: its thread waits, and goes on when the inbox was emptied."""
    inbox = Inbox(machines=1, max_samples=20)

    def play() -> None:
        for _ in range(10):
            inbox.put(0, block(10), live=False)
        inbox.end(0)

    player = threading.Thread(target=play, daemon=True)
    player.start()
    heard = 0
    while not inbox.done:
        for _, blocks in inbox.take(5):
            heard += sum(b.samples.size for b in blocks)
    player.join(5)
    assert heard == 100
    assert inbox.dropped_samples == [0]


def test_a_waiting_recording_is_released_by_the_end() -> None:
    """Ending a machine wakes the thread that waits for room, and tells it that nobody reads any more."""
    inbox = Inbox(machines=1, max_samples=10)
    inbox.put(0, block(10), live=False)
    answers: list[bool] = []
    player = threading.Thread(target=lambda: answers.append(inbox.put(0, block(10), live=False)), daemon=True)
    player.start()
    inbox.end(0)
    player.join(5)
    assert answers == [False]


@pytest.mark.parametrize("timeout_s", [0, 0.01])
def test_no_sound_is_no_blocks(timeout_s: float) -> None:
    """Without sound, take ends after its time with nothing."""
    assert Inbox(machines=1, max_samples=10).take(timeout_s) == []


def test_machines_that_wait_are_taken_together_and_in_turn() -> None:
    """Up to as many as are asked for, each once; the next take begins with those that were left."""
    inbox = Inbox(machines=5, max_samples=100)
    for machine in (0, 1, 3, 4):
        inbox.put(machine, block(10 + machine), live=True)
        inbox.put(machine, block(1), live=True)
    taken = [inbox.take(0, max_machines=3) for _ in range(3)]
    assert [[machine for machine, _ in each] for each in taken] == [[0, 1, 3], [4], []]
    assert [sum(b.samples.size for b in blocks) for _, blocks in taken[0]] == [11, 12, 14]
    inbox.put(0, block(1), live=True)
    inbox.put(4, block(1), live=True)
    assert [machine for machine, _ in inbox.take(0, max_machines=2)] == [0, 4]

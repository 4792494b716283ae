"""The ring between the process that records and the daemon."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.capture.ring import RingHandle, RingReader, RingWriter

SLOTS = 4
SLOT_BYTES = 40


class Ring:
    """Both ends in one process."""

    def __init__(self) -> None:
        self.handle = RingHandle.create()
        self.writer = RingWriter(self.handle, slots=SLOTS, slot_bytes=SLOT_BYTES)
        self.reader = RingReader(self.handle, slots=SLOTS, slot_bytes=SLOT_BYTES)

    def put(self, number: int, n_samples: int, *, overrun: bool = False) -> None:
        """A block whose every sample is its number."""
        samples = struct.pack(f"{n_samples}f", *[number] * n_samples)
        self.writer.put(memoryview(samples), n_samples, arrived_s=float(number), age_s=0.25, overrun=overrun)

    def close(self) -> None:
        self.reader.close()
        self.handle.close()


@pytest.fixture
def ring():
    """A ring of four slots of up to ten samples."""
    made = Ring()
    yield made
    made.close()


@given(steps=st.lists(st.one_of(st.just("take"), st.tuples(st.integers(0, 10), st.booleans())), max_size=60))
def test_what_is_put_is_taken_in_order_or_counted_as_lost(steps):
    """For any order of writing and reading: what has room comes out as it went in, the rest is lost ahead of the next.

    An overrun is told with the next block that has room.
    """
    ring = Ring()
    waiting: list[tuple[int, int, int, bool]] = []
    lost, overrun_before = 0, False
    for number, step in enumerate([*steps, "take"]):
        if step == "take":
            taken = ring.reader.take()
            assert [
                (int(slot.arrived_s), len(slot.samples) // 4, slot.lost_samples, slot.overrun) for slot in taken
            ] == waiting
            for slot in taken:
                assert set(struct.unpack(f"{len(slot.samples) // 4}f", slot.samples)) <= {slot.arrived_s}
                assert slot.age_s == 0.25
            waiting = []
            continue
        n_samples, overrun = step
        ring.put(number, n_samples, overrun=overrun)
        overrun_before |= overrun
        if len(waiting) < SLOTS:
            waiting.append((number, n_samples, lost, overrun_before))
            lost, overrun_before = 0, False
        else:
            lost += n_samples
    ring.close()


def test_a_ring_has_no_name_that_could_be_left_behind(ring):
    """Its memory is anonymous: nothing stands in /dev/shm, and with its descriptors it is gone."""
    ring.put(1, 10)
    assert "memfd:edge-asd-sound" in str(Path(f"/proc/self/fd/{ring.handle.memory}").readlink())
    assert not [path for path in Path("/dev/shm").iterdir() if "edge-asd" in path.name]  # noqa: S108 - only looked at


def test_a_ring_smaller_than_said_is_refused():
    """A reader never maps memory that is not there: reading it would kill the daemon."""
    handle = RingHandle.create()
    RingWriter(handle, slots=1, slot_bytes=SLOT_BYTES)
    with pytest.raises(ValueError, match="greater than file size"):
        RingReader(handle, slots=2, slot_bytes=SLOT_BYTES)
    handle.close()

"""Sound of the process that records in, a ring of slots in memory that two processes share, the same sound out.

One process writes, one reads. Two eventfds count the slots that are filled and those that are free; whoever takes from
them has seen what was written before, on any CPU, so that the memory itself needs no lock. Nothing has a name: when
both processes are gone, however they went, so is the ring.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass

_HEADER = struct.Struct("<ddQQQ")  # arrived_s, age_s, bytes, lost samples, overrun
_CACHE_LINE_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RingHandle:
    """The three file descriptors that are a ring; passed to the other process by inheritance."""

    memory: int
    filled: int
    free: int

    @classmethod
    def create(cls) -> RingHandle:
        """Make a ring without slots; the writer says how many and how large.

        Raises:
            OSError: the kernel has no memory or descriptors left.
        """
        return cls(
            memory=os.memfd_create("edge-asd-sound"),
            filled=os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC),
            free=os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC | os.EFD_SEMAPHORE),
        )

    def close(self) -> None:
        """Let go of the descriptors."""
        for descriptor in (self.memory, self.filled, self.free):
            os.close(descriptor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What one callback brought.

    samples: interleaved float32 of all channels, as bytes. arrived_s: monotonic time of the callback. age_s: how long
    before it the last sample was heard, as the driver says. lost_samples: of each channel, ahead of these, for which
    the ring had no room. overrun: whether the driver lost sound ahead of these, it does not say how much.
    """

    samples: bytes
    arrived_s: float
    age_s: float
    lost_samples: int
    overrun: bool


class RingWriter:
    """The recording side: `put` neither waits nor allocates; without a free slot the new sound is dropped and counted.

    Args:
        slots: how many. slot_bytes: the most that one holds.
    """

    def __init__(self, handle: RingHandle, *, slots: int, slot_bytes: int) -> None:
        self._handle = handle
        self._slots = slots
        self._stride = _stride(slot_bytes)
        os.ftruncate(handle.memory, slots * self._stride)
        self._memory = mmap.mmap(handle.memory, slots * self._stride)
        self._next = 0
        self._lost_samples = 0  # since the last slot that was filled
        self._overrun = False
        os.eventfd_write(handle.free, slots)

    def put(self, samples: memoryview, n_samples: int, *, arrived_s: float, age_s: float, overrun: bool) -> None:
        """Fill the next slot. n_samples: of each channel."""
        self._overrun |= overrun
        try:
            os.eventfd_read(self._handle.free)
        except BlockingIOError:
            self._lost_samples += n_samples
            return
        start = self._next * self._stride
        n_bytes = len(samples)
        _HEADER.pack_into(self._memory, start, arrived_s, age_s, n_bytes, self._lost_samples, self._overrun)
        start += _HEADER.size
        self._memory[start : start + n_bytes] = samples
        self._next = (self._next + 1) % self._slots
        self._lost_samples = 0
        self._overrun = False
        os.eventfd_write(self._handle.filled, 1)


class RingReader:
    """The side that scores; made when the writer has said how large the ring is.

    Raises:
        OSError: the ring is not as large as that.
    """

    def __init__(self, handle: RingHandle, *, slots: int, slot_bytes: int) -> None:
        self._handle = handle
        self._slots = slots
        self._stride = _stride(slot_bytes)
        self._memory = mmap.mmap(handle.memory, slots * self._stride, prot=mmap.PROT_READ)
        self._next = 0

    def take(self) -> tuple[Slot, ...]:
        """Return what is filled, oldest first; does not wait."""
        try:
            n_filled = os.eventfd_read(self._handle.filled)
        except BlockingIOError:
            return ()
        slots = tuple(self._copy_next() for _ in range(n_filled))
        os.eventfd_write(self._handle.free, n_filled)
        return slots

    def _copy_next(self) -> Slot:
        start = self._next * self._stride
        self._next = (self._next + 1) % self._slots
        arrived_s, age_s, n_bytes, lost_samples, overrun = _HEADER.unpack_from(self._memory, start)
        start += _HEADER.size
        return Slot(
            samples=self._memory[start : start + n_bytes],
            arrived_s=arrived_s,
            age_s=age_s,
            lost_samples=lost_samples,
            overrun=bool(overrun),
        )

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()


def _stride(slot_bytes: int) -> int:
    return -(-(slot_bytes + _HEADER.size) // _CACHE_LINE_BYTES) * _CACHE_LINE_BYTES

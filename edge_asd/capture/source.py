"""What every source of sound has in common, whether a sound card or recorded clips."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from edge_asd.types import Block


class Source(Protocol):
    """Sound of one or more channels, as blocks; iterate it once, and close it from any thread."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def live(self) -> bool:
        """Whether sound goes on without us: a live source that is not read in time loses some, a recording waits."""

    @property
    def lost_samples(self) -> int:
        """How much sound of each channel was lost since the start, in samples at 16 kHz."""

    def __iter__(self) -> Iterator[tuple[Block, ...]]:
        """Yield one block per wanted channel, in the order asked for; ends with the recordings or by `close`.

        Raises:
            ClipError: a recorded clip turns out to be damaged.
            TemporaryError: a sound card stopped delivering.
        """

    def close(self) -> None:
        """End the iteration soon and release the device; may be called twice."""

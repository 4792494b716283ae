"""What every source of sound has in common, whether a sound card or recorded clips."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from edge_asd.types import Block, NoSound


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

    @property
    def overruns(self) -> int:
        """How often the driver said that it lost sound."""

    @property
    def restarts(self) -> int:
        """How often the card was opened again."""

    def __iter__(self) -> Iterator[tuple[Block, ...] | NoSound]:
        """Yield one block per wanted channel, in the order asked for; ends with the recordings or by `close`.

        When a card falls silent or is not there, say why, and each further reason once; it is tried again and again,
        and the block after it says how much is missing.

        Raises:
            ClipError: a recorded clip turns out to be damaged.
        """

    def close(self) -> None:
        """End the iteration soon and release the device; may be called twice."""

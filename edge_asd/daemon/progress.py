"""What each live source has done so far in, those that stand still out."""

from __future__ import annotations

from collections.abc import Hashable

STALLED_S = 45.0
"""A source gives up on a recording process that is silent and starts another; who does neither for so long hangs."""


class Progress:
    """Notices a source that neither delivers nor tries again.

    A card that is unplugged is no such source: it is tried again and again.
    """

    def __init__(self) -> None:
        self._latest: dict[str, tuple[Hashable, float]] = {}

    def note(self, source: str, done: Hashable, now_s: float) -> None:
        """Takes anything that changes whenever the source has done something."""
        before = self._latest.get(source)
        if before is None or before[0] != done:
            self._latest[source] = (done, now_s)

    def stalled(self, now_s: float) -> list[str]:
        """What is to be said of the sources that stand still."""
        return [
            f"{source} has neither delivered sound nor been tried again for {now_s - since_s:.0f} s"
            for source, (_, since_s) in self._latest.items()
            if now_s - since_s > STALLED_S
        ]

"""Failed attempts in, the pause before the next one out: growing, with jitter."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Pauses that double, each drawn from the upper half of its range: devices that failed together spread out.

    min_s, max_s: no pause is shorter or longer.
    draw: numbers from 0 to 1.
    """

    def __init__(self, min_s: float, max_s: float, *, draw: Callable[[], float] = random.random) -> None:
        self._min_s = min_s
        self._max_s = max_s
        self._draw = draw
        self.reset()

    def reset(self) -> None:
        """Begins anew with the shortest pauses, after a success."""
        self._longest_s = min(2 * self._min_s, self._max_s)

    def next_s(self) -> float:
        """The pause to make now."""
        longest_s = self._longest_s
        self._longest_s = min(2 * longest_s, self._max_s)
        shortest_s = max(longest_s / 2, self._min_s)
        return shortest_s + (longest_s - shortest_s) * self._draw()

"""When each of a card's blocks arrived in, when it ended and what is missing ahead of it out."""

from __future__ import annotations

_MAX_JITTER_S = 1.0
_MAX_DRIFT = 1e-3
"""A block cannot end later than it arrives, but may arrive late: its end is the earliest that arrivals allow, and moves
later by no more than a card's clock may drift. What is later than deliveries jitter was lost without a word."""


class BlockTimes:
    """Ends of the blocks of one card, on the clock of their arrivals.

    Args:
        rate_hz: of the card.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._previous_end_s: float | None = None

    def place(
        self, n_samples: int, *, arrived_s: float, age_s: float, lost_samples: int, overrun: bool
    ) -> tuple[float, int]:
        """Return the end of a block in s, and how many samples are missing ahead of it, at the card's rate.

        age_s: how long before its arrival the last sample was heard, as the card says. lost_samples: that are known to
        be missing. overrun: that more are, the card does not say how many.
        """
        end_s = arrived_s - age_s
        if self._previous_end_s is not None:
            due_s = self._previous_end_s + (lost_samples + n_samples) / self._rate_hz
            late_s = end_s - due_s
            if overrun or late_s >= _MAX_JITTER_S:
                lost_samples += max(1, round(late_s * self._rate_hz))
            else:
                end_s = min(end_s, due_s + _MAX_DRIFT * n_samples / self._rate_hz)
        self._previous_end_s = end_s
        return end_s, lost_samples

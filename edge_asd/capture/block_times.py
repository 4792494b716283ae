"""When each of a card's blocks arrived in, when it ended and what is missing ahead of it out."""

from __future__ import annotations

_MAX_DRIFT = 1e-3
"""A block cannot end later than it arrives, but may arrive late: its end is the earliest that arrivals allow, and moves
later by no more than a card's clock may drift."""

_MAX_LATE_S = 1.0
"""What arrives later than this comes after a loss that the card said nothing of."""

_MAX_LASTING_S = 0.1
_LASTING_S = 1.0
"""So does what arrives later than `_MAX_LASTING_S` and does not catch up within `_LASTING_S`; a sound server does that
in its first seconds."""


class BlockTimes:
    """Ends of the blocks of one card, on the clock of their arrivals.

    Args:
        rate_hz: of the card.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._previous_end_s: float | None = None
        self._late_for_s = 0.0  # of sound that was late without a break
        self._least_late_s = 0.0  # of it

    def place(
        self, n_samples: int, *, arrived_s: float, age_s: float, lost_samples: int, overrun: bool
    ) -> tuple[float, int]:
        """Return the end of a block in s, and how many samples are missing ahead of it, at the card's rate.

        age_s: how long before its arrival the last sample was heard, as the card says. lost_samples: that are known to
        be missing. overrun: that more are, the card does not say how many.
        """
        end_s = arrived_s - age_s
        if self._previous_end_s is not None:
            block_s = n_samples / self._rate_hz
            due_s = self._previous_end_s + lost_samples / self._rate_hz + block_s
            late_s = end_s - due_s
            missing_s = max(0.0, late_s) if overrun or late_s >= _MAX_LATE_S else self._lasting(late_s, block_s)
            end_s = due_s + missing_s if missing_s else min(end_s, due_s + _MAX_DRIFT * block_s)
            lost_samples += max(round(missing_s * self._rate_hz), int(overrun))
        self._previous_end_s = end_s
        return end_s, lost_samples

    def _lasting(self, late_s: float, block_s: float) -> float:
        """How late all blocks of the last `_LASTING_S` were, once they were all late; 0 else."""
        if late_s <= _MAX_LASTING_S:
            self._late_for_s = 0.0
            return 0.0
        self._least_late_s = min(late_s, self._least_late_s) if self._late_for_s else late_s
        self._late_for_s += block_s
        if self._late_for_s < _LASTING_S:
            return 0.0
        self._late_for_s = 0.0
        return self._least_late_s

"""Windows of one machine and their vectors in, those that are fit to be learned out, and how much was not and why.

Windows that overlap say the same twice: of sound without a gap each one that is kept begins where the one before ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edge_asd.bundle.memory import Encoder, Memory, memory_from_vectors
from edge_asd.types import FloatArray, Window

SPEECH = "speech"
NOT_FINITE = "not_finite"
GROUP_S = 60.0
"""Windows of one minute resemble one another: they are one group, and none is judged by another of its own."""

_FRESH_SHARE = 0.99
"""So that the longest hop, 9.92 s, keeps every window and not every second one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A window that is learned: its vector (d,), the minute or clip that it belongs to, and when it was heard."""

    vector: FloatArray
    group: int
    begin_utc_s: float
    end_utc_s: float


class Collector:
    """Takes a machine's successive windows; what is faulty, spoken into or not finite is refused and counted.

    Args:
        window_s: length of a window.
    """

    def __init__(self, *, window_s: float) -> None:
        self._window_s = window_s
        self._fresh_s = 0.0  # of sound since the end of the latest window that was kept or refused for its sound
        self._kept: list[Kept] = []
        self._refused_s: dict[str, float] = {}

    def is_due(self, window: Window, *, sample_rate_hz: int) -> bool:
        """Take note of the next window; whether it holds nothing, or next to nothing, that was judged before."""
        self._fresh_s += window.fresh_samples / sample_rate_hz
        return self._fresh_s >= _FRESH_SHARE * self._window_s

    def keep(self, vector: FloatArray, *, group: int, end_utc_s: float) -> None:
        """Learn the window that is due; a vector (d,) that is not finite is refused."""
        if not np.isfinite(vector).all():
            self.refuse(NOT_FINITE)
            return
        self._fresh_s = 0.0
        end_utc_s = max(end_utc_s, 0.0)
        begin_utc_s = max(end_utc_s - self._window_s, 0.0)  # a clock that nothing set begins in 1970
        self._kept.append(Kept(vector=vector, group=group, begin_utc_s=begin_utc_s, end_utc_s=end_utc_s))

    def refuse(self, why: str) -> None:
        """Do not learn the sound since the window before, and none that overlaps it."""
        self._refused_s = summed(self._refused_s, {why: min(self._fresh_s, self._window_s)})
        self._fresh_s = 0.0

    def skip(self) -> None:
        """Neither learn the window that is due nor refuse it."""
        self._fresh_s = 0.0

    @property
    def n_kept(self) -> int:
        """Windows that were kept and not taken yet."""
        return len(self._kept)

    @property
    def refused_s(self) -> dict[str, float]:
        """How much was refused, and why, and not taken yet."""
        return dict(self._refused_s)

    @property
    def has_news(self) -> bool:
        """Whether anything was kept or refused and not taken yet."""
        return bool(self._kept or self._refused_s)

    def take(self) -> tuple[list[Kept], dict[str, float]]:
        """What was kept, and how much was refused and why, since the call before."""
        taken = self._kept, self._refused_s
        self._kept, self._refused_s = [], {}
        return taken


def minute_of(end_utc_s: float) -> int:
    """The group of live sound."""
    return math.floor(end_utc_s / GROUP_S)


def memory_with(memory: Memory, kept: list[Kept]) -> Memory:
    """The memory and what was kept after it; groups keep their numbers."""
    if not kept:
        return memory
    later = memory_from_kept(kept, memory.encoder)
    return Memory(
        encoder=memory.encoder,
        vectors=np.concatenate((memory.vectors, later.vectors)),
        is_target=np.concatenate((memory.is_target, later.is_target)),
        group=np.concatenate((memory.group, later.group)),
        begin_utc_s=np.concatenate((memory.begin_utc_s, later.begin_utc_s)),
        end_utc_s=np.concatenate((memory.end_utc_s, later.end_utc_s)),
    )


def memory_from_kept(kept: list[Kept], encoder: Encoder) -> Memory:
    """A memory of what was kept."""
    return memory_from_vectors(
        np.stack([each.vector for each in kept]),
        encoder,
        group=np.array([each.group for each in kept], dtype=np.int64),
        begin_utc_s=np.array([each.begin_utc_s for each in kept], dtype=np.float64),
        end_utc_s=np.array([each.end_utc_s for each in kept], dtype=np.float64),
    )


def summed(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Sound by reason, together."""
    return {why: one.get(why, 0.0) + other.get(why, 0.0) for why in (*one, *(why for why in other if why not in one))}

"""Blocks, scores and alarms of one machine in, the sound before and after each alarm out; memory is one ring."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from edge_asd.types import AlarmEvent, Block, FloatArray

_LATE_S = 11.0
"""How much newer the newest sound may be than the window that raises the alarm: a hop, and a block."""

_MAX_OPEN = 4
"""Alarms of one machine whose sound is still to come; a further one is kept with the sound so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """The sound around an alarm.

    samples: (n,) float32; what was lost is zeros. begin_utc_s: of the first sample. alarm_at_s: how far into it the
    alarm was raised. gaps: (at_s, length_s) of what was lost. scores: (at_s, score) of the windows that end within it.
    whole: whether all the sound after the alarm is there.
    """

    machine: str
    event: AlarmEvent
    samples: FloatArray
    sample_rate_hz: int
    begin_utc_s: float
    alarm_at_s: float
    gaps: tuple[tuple[float, float], ...]
    scores: tuple[tuple[float, float], ...]
    whole: bool


@dataclass(frozen=True, slots=True)
class _Open:
    """An alarm whose sound is still to come; position of the sample at which it was raised, from the start."""

    event: AlarmEvent
    position: int


class Recorder:
    """Remembers the latest sound and scores of one machine.

    Args:
        machine: its name.
        sample_rate_hz: of its sound.
        before_s, after_s: how much is kept before and after the moment at which an alarm is raised.
    """

    def __init__(self, machine: str, *, sample_rate_hz: int, before_s: float, after_s: float) -> None:
        self._machine = machine
        self._rate_hz = sample_rate_hz
        self._n_before = round(before_s * sample_rate_hz)
        self._n_after = round(after_s * sample_rate_hz)
        self._ring: FloatArray = np.zeros(self._n_before + self._n_after + round(_LATE_S * sample_rate_hz), np.float32)
        self._position = 0  # of the next sample, from the start
        self._begin = 0  # of the oldest sample that is still there
        self._end_monotonic_s = self._end_utc_s = 0.0
        self._gaps: deque[tuple[int, int]] = deque()  # (position, samples)
        self._scores: deque[tuple[float, float]] = deque()  # (end_monotonic_s, score)
        self._open: list[_Open] = []

    def hear(self, block: Block) -> list[Take]:
        """Remember a block; the takes that are whole with it."""
        if block.lost_samples and self._position:
            lost = min(block.lost_samples, len(self._ring))
            self._gaps.append((self._position, lost))
            self._write(np.zeros(lost, dtype=np.float32))
        self._write(block.samples)
        self._end_monotonic_s, self._end_utc_s = block.end_monotonic_s, block.end_utc_s
        while self._gaps and self._gaps[0][0] + self._gaps[0][1] <= self._begin:
            self._gaps.popleft()
        whole = [each for each in self._open if self._is_whole(each)]
        self._open = [each for each in self._open if each not in whole]
        return [self._take(each, whole=True) for each in whole]

    def note(self, score: float, end_monotonic_s: float) -> None:
        """Remember the score of the window that ended then, for as long as its sound."""
        self._scores.append((end_monotonic_s, score))
        while self._scores[0][0] < end_monotonic_s - len(self._ring) / self._rate_hz:
            self._scores.popleft()

    def begin(self, event: AlarmEvent, raised_monotonic_s: float) -> list[Take]:
        """Take what there is so far of an alarm that was raised then; the whole follows from `hear` or `end`."""
        late = round((self._end_monotonic_s - raised_monotonic_s) * self._rate_hz)
        self._open.append(_Open(event, self._position - max(0, late)))
        finished = [self._take(each, whole=False) for each in self._open[:-_MAX_OPEN]]
        self._open = self._open[-_MAX_OPEN:]
        return [*finished, self._take(self._open[-1], whole=False)]

    def end(self) -> list[Take]:
        """Take what there is: no more sound will come for now."""
        takes = [self._take(each, whole=self._is_whole(each)) for each in self._open]
        self._open = []
        return takes

    def _is_whole(self, each: _Open) -> bool:
        return self._position >= each.position + self._n_after

    def _write(self, samples: FloatArray) -> None:
        samples = samples[-len(self._ring) :]
        at = self._position % len(self._ring)
        until_wrap = samples[: len(self._ring) - at]
        self._ring[at : at + len(until_wrap)] = until_wrap
        self._ring[: len(samples) - len(until_wrap)] = samples[len(until_wrap) :]
        self._position += len(samples)
        self._begin = max(self._begin, self._position - len(self._ring))

    def _take(self, each: _Open, *, whole: bool) -> Take:
        begin = max(self._begin, each.position - self._n_before)
        end = min(self._position, each.position + self._n_after)
        positions = np.arange(begin, end) % len(self._ring)

        def seconds(position: int) -> float:
            return (position - begin) / self._rate_hz

        begin_monotonic_s = self._end_monotonic_s - (self._position - begin) / self._rate_hz
        return Take(
            machine=self._machine,
            event=each.event,
            samples=self._ring[positions],
            sample_rate_hz=self._rate_hz,
            begin_utc_s=self._end_utc_s - (self._position - begin) / self._rate_hz,
            alarm_at_s=seconds(each.position),
            gaps=tuple(
                (seconds(max(at, begin)), (min(at + n, end) - max(at, begin)) / self._rate_hz)
                for at, n in self._gaps
                if at < end and at + n > begin
            ),
            scores=tuple(
                (round(end_s - begin_monotonic_s, 3), score)
                for end_s, score in self._scores
                if 0.0 <= end_s - begin_monotonic_s <= seconds(end) + 1e-6
            ),
            whole=whole,
        )

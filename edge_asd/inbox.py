"""Blocks and news of silence from the capture threads in, those of one machine at a time out, within a bound."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from edge_asd.types import Block, NoSound


class Inbox:
    """Where sound waits to be scored.

    A live source never waits: when its machine's inbox is full, the oldest block is dropped, counted, and becomes a gap
    ahead of the block after it. So is news of a silence that has ended since, and of several in a row but the latest. A
    recording waits until there is room, so nothing of it is lost.

    Args:
        machines: how many machines, numbered from 0.
        max_samples: bound of what waits for one machine.
    """

    def __init__(self, *, machines: int, max_samples: int) -> None:
        self._waiting: list[deque[Block | NoSound]] = [deque() for _ in range(machines)]
        self._samples = [0] * machines
        self._open = [True] * machines
        self._max_samples = max_samples
        self._changed = threading.Condition()
        self._turn = 0
        self.dropped_samples = [0] * machines

    def put(self, machine: int, heard: Block | NoSound, *, live: bool) -> bool:
        """Add a block, or that there is none; False when the inbox was closed and nobody will read it."""
        with self._changed:
            while not live and self._open[machine] and self._samples[machine] >= self._max_samples:
                self._changed.wait()
            if not self._open[machine]:
                return False
            waiting = self._waiting[machine]
            if isinstance(heard, Block):
                self._samples[machine] += heard.samples.size
            elif waiting and isinstance(waiting[-1], NoSound):
                waiting.pop()
            waiting.append(heard)
            if live and self._samples[machine] > self._max_samples:
                self._drop_oldest(machine)
            self._changed.notify_all()
            return True

    def _drop_oldest(self, machine: int) -> None:
        """Drop down to the bound, but for the latest block."""
        waiting = self._waiting[machine]
        lost_samples = 0
        while True:
            oldest = waiting.popleft()
            if isinstance(oldest, NoSound):
                continue
            if self._samples[machine] <= self._max_samples or self._samples[machine] == oldest.samples.size:
                waiting.appendleft(replace(oldest, lost_samples=lost_samples + oldest.lost_samples))
                return
            self._samples[machine] -= oldest.samples.size
            self.dropped_samples[machine] += oldest.samples.size
            lost_samples += oldest.lost_samples + oldest.samples.size

    def take(self, timeout_s: float, *, max_machines: int = 1) -> list[tuple[int, Sequence[Block | NoSound]]]:
        """All that waits for the next machines in turn; empty after `timeout_s` without sound or when all is done."""
        taken: list[tuple[int, Sequence[Block | NoSound]]] = []
        with self._changed:
            self._changed.wait_for(lambda: any(self._waiting) or self.done, timeout_s)
            first = self._turn
            for step in range(len(self._waiting)):
                machine = (first + step) % len(self._waiting)
                if self._waiting[machine] and len(taken) < max_machines:
                    taken.append((machine, tuple(self._waiting[machine])))
                    self._waiting[machine].clear()
                    self._samples[machine] = 0
                    self._turn = machine + 1
            if taken:
                self._changed.notify_all()
        return taken

    def end(self, machine: int) -> None:
        """No more sound of this machine will come; what waits can still be taken."""
        with self._changed:
            self._open[machine] = False
            self._changed.notify_all()

    @property
    def done(self) -> bool:
        """Whether every machine has ended and nothing waits."""
        return not any(self._open) and not any(self._waiting)

"""Recorded clips in, their sound out as blocks, joined without a gap and paced as fast as asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from edge_asd.capture.clips import SAMPLE_RATE_HZ, check_clip, find_clips, stream_clip
from edge_asd.types import Block, FloatArray

_BLOCK_SAMPLES = 1_920  # 0.12 s, an eighth of the default hop


class ClipPlayer:
    """A source of one channel that plays clips one after the other; it waits for its reader and loses nothing.

    A block's times are those of the start of play plus its position in the sound, whatever the speed.

    Args:
        paths: clips, or folders whose clips are played by name.
        speed: 1 plays in real time, 20 twenty times as fast; a block comes no earlier than its last sample is due.
        repeat: start again after the last clip.
        channel: counted from 0; needed where a clip has several.
        clock: seconds, never going back.
        utc_clock: POSIX seconds.
        wait: sleeps for the seconds given; without it, a sleep that `close` ends.

    Raises:
        ClipError: a path is missing, or a clip's header already tells that it cannot be used.
    """

    live = False
    lost_samples = 0
    overruns = 0
    restarts = 0

    def __init__(
        self,
        paths: Iterable[str | Path],
        *,
        speed: float,
        repeat: bool,
        channel: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        utc_clock: Callable[[], float] = time.time,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._clips = find_clips(paths)
        for clip in self._clips:
            check_clip(clip, channel=channel)
        self._speed = speed
        self._repeat = repeat
        self._channel = channel
        self._clock = clock
        self._utc_clock = utc_clock
        self._closed = threading.Event()
        self._wait = wait or self._closed.wait
        others = f" and {len(self._clips) - 1} more" if len(self._clips) > 1 else ""
        self.name = f"clip {self._clips[0].name}{others}"

    def __iter__(self) -> Iterator[tuple[Block, ...]]:
        """Yield one block at a time, each when it is due.

        Raises:
            ClipError: a clip turns out to be damaged when it is reached.
        """
        began_s, began_utc_s = self._clock(), self._utc_clock()
        position = 0  # samples since the start of play
        for samples in self._samples():
            for start in range(0, len(samples), _BLOCK_SAMPLES):
                block = samples[start : start + _BLOCK_SAMPLES]
                position += len(block)
                position_s = position / SAMPLE_RATE_HZ
                early_s = began_s + position_s / self._speed - self._clock()
                if early_s > 0:
                    self._wait(early_s)
                if self._closed.is_set():
                    return
                end_monotonic_s, end_utc_s = began_s + position_s, began_utc_s + position_s
                yield (Block(samples=block, end_monotonic_s=end_monotonic_s, end_utc_s=end_utc_s),)

    def _samples(self) -> Iterator[FloatArray]:
        while True:
            for clip in self._clips:
                yield from stream_clip(clip, channel=self._channel)
            if not self._repeat:
                return

    def close(self) -> None:
        """End the iteration soon."""
        self._closed.set()

"""A choice of sound card and channels in, its live sound out as blocks at 16 kHz, and news of when there is none."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from edge_asd.capture.block_times import BlockTimes
from edge_asd.capture.blocks import BlockMaker
from edge_asd.capture.child import Opened
from edge_asd.capture.clips import SAMPLE_RATE_HZ
from edge_asd.capture.devices import CardChoice
from edge_asd.capture.recorder import Patience, Recorder, SoundLost
from edge_asd.capture.ring import Slot
from edge_asd.types import Block, NoSound

LOG = logging.getLogger(__name__)

_BACK_OFF_S = (0.5, 1.0, 2.0, 4.0)
"""From attempt to attempt, the last again and again: short enough that a card is heard within 10 s of its return, the
start of a process and PulseAudio's 2 s included."""

_STEADY_SAMPLES = 10 * SAMPLE_RATE_HZ
"""After so much sound the next back-off starts from the beginning."""


_HURRIED_ATTEMPTS = 2
"""After so many in a row one attempt is given longer, as are all until a card is heard for the first time: a machine
that boots or is overloaded is slow, not hung."""

_MAX_REASONS = 5
"""How many reasons of one silence are told, each once: what fails in turns is no news."""


class SoundCard:
    """A live source: records the wanted channels of one sound card, in a process that is started again when it fails.

    A card that does not take 16 kHz is recorded at its native rate and resampled. Sound that the card or we lost makes
    a gap: `lost_samples` of the block after it, and of the source in all.

    Args:
        choice: the card.
        channels: counted from 0, one block each in this order.
        patience: when a recording process is taken for hung.
    """

    live = True

    def __init__(self, choice: CardChoice, channels: Sequence[int], *, patience: Patience | None = None) -> None:
        self.name = str(choice)
        self.lost_samples = 0
        self.overruns = 0
        self.restarts = 0
        self._choice = choice
        self._channels = list(channels)
        self._patience = patience or Patience()
        self._closed = threading.Event()
        self._recorder: Recorder | None = None  # the latest
        self._heard_samples = 0  # since the start
        self._until_s = self._until_utc_s = 0.0  # end of the latest block, or the start
        self._broken = False  # whether something is missing ahead of the next block
        self._told: list[str] = []  # why there is no sound, while there is none

    def __iter__(self) -> Iterator[tuple[Block, ...] | NoSound]:
        """Yield one block per wanted channel until `close`; when sound stops, and for a further reason, yield why."""
        self._until_s, self._until_utc_s = time.monotonic(), time.time()
        failures = 0
        while not self._closed.is_set():
            heard_before = self._heard_samples
            hurried = heard_before > 0 and failures % (_HURRIED_ATTEMPTS + 1) != _HURRIED_ATTEMPTS
            try:
                yield from self._record(self._patience if hurried else self._patience.without_hurry())
            except SoundLost as lost:
                if self._closed.is_set():
                    return
                self._broken = True
                if str(lost) not in self._told and len(self._told) < _MAX_REASONS:
                    self._told.append(str(lost))
                    LOG.warning("%s: no sound: %s", self.name, lost)
                    yield NoSound(since_monotonic_s=self._until_s, since_utc_s=self._until_utc_s, reason=str(lost))
            failures = 0 if self._heard_samples - heard_before >= _STEADY_SAMPLES else failures + 1
            if not self._closed.wait(_BACK_OFF_S[min(failures, len(_BACK_OFF_S) - 1)]):
                self.restarts += 1

    def _record(self, patience: Patience) -> Iterator[tuple[Block, ...]]:
        """Yield the blocks of one process until `close`.

        Raises:
            SoundLost: there are no more, or none at all.
        """
        if self._recorder is not None and self._recorder.process.poll() is None:
            raise SoundLost(
                f"the driver of {self._choice} holds the killed process {self._recorder.process.pid}; expected it to "
                "end; unplug the card, or restart the device"
            )
        with Recorder(
            self._choice, n_channels=max(self._channels) + 1, rate_hz=SAMPLE_RATE_HZ, patience=patience
        ) as recorder:
            self._recorder = recorder
            converter: _Converter | None = None
            while not self._closed.is_set():
                if (came := recorder.read()) is None:
                    continue
                opened, slots = came
                converter = converter or _Converter(opened, self._channels)
                for slot in slots:
                    self.overruns += slot.overrun
                    yield self._joined(converter.blocks(slot))

    def _joined(self, blocks: tuple[Block, ...]) -> tuple[Block, ...]:
        """The same blocks, with what is missing since the process before."""
        first = blocks[0]
        if self._broken:
            self._broken = False
            began_s = first.end_monotonic_s - first.samples.size / SAMPLE_RATE_HZ
            lost_samples = max(1, round((began_s - self._until_s) * SAMPLE_RATE_HZ))
            blocks = tuple(replace(block, lost_samples=lost_samples) for block in blocks)
            LOG.info("%s: heard again after %.1f s", self.name, began_s - self._until_s)
            self._told = []
        self._until_s, self._until_utc_s = first.end_monotonic_s, first.end_utc_s
        self._heard_samples += first.samples.size
        self.lost_samples += blocks[0].lost_samples
        return blocks

    def close(self) -> None:
        """End the iteration soon; the card is free when this returns."""
        self._closed.set()
        if self._recorder is not None:
            self._recorder.kill()


class _Converter:
    """The wanted channels of what one process records, as blocks at 16 kHz on the clocks of this process."""

    def __init__(self, opened: Opened, channels: Sequence[int]) -> None:
        self._n_channels = opened.n_channels
        self._channels = channels
        self._times = BlockTimes(opened.rate_hz)
        self._maker = BlockMaker(opened.rate_hz, len(channels))

    def blocks(self, slot: Slot) -> tuple[Block, ...]:
        samples = np.frombuffer(slot.samples, dtype=np.float32).reshape(-1, self._n_channels)  # (n, all channels)
        end_s, lost_samples = self._times.place(
            len(samples),
            arrived_s=slot.arrived_s,
            age_s=slot.age_s,
            lost_samples=slot.lost_samples,
            overrun=slot.overrun,
        )
        return self._maker.blocks(
            samples[:, self._channels],
            end_monotonic_s=end_s,
            end_utc_s=time.time() - (time.monotonic() - end_s),
            lost_samples=lost_samples,
        )

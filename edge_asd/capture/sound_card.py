"""A sound card's name and channels in, its live sound out as blocks at 16 kHz."""

from __future__ import annotations

import atexit
import logging
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_asd.capture.blocks import BlockMaker
from edge_asd.capture.clips import SAMPLE_RATE_HZ
from edge_asd.capture.devices import SoundDevice, cannot_open, choose_device, list_devices, portaudio, takes_rate
from edge_asd.errors import TemporaryError, UnavailableError
from edge_asd.types import Block, FloatArray

LOG = logging.getLogger(__name__)

_BLOCK_S = 0.12
"""An eighth of the default hop: few wake-ups, and no hop waits for a block that is nearly full."""

_CARD_BUFFER_S = 1.0
"""How much sound the driver is asked to hold while this process does not get to run."""

_QUEUE_S = 10.0
"""How much sound waits for a reader that is late; beyond it the newest block is dropped and counted."""

_MAX_JITTER_S = 1.0
_MAX_DRIFT = 1e-3
"""A block cannot end later than it arrives, but may arrive late: its end is the earliest that arrivals allow, and moves
later by no more than a card's clock may drift, unless it would be further off than delivery jitters."""

_STALL_S = 5.0
"""A card is silent at most this long; PulseAudio may take 2 s for its first block."""

_CLOSE_S = 2.0
"""How long PortAudio may take to let go of a card; a dead sound server never answers."""


@dataclass(frozen=True, slots=True)
class _Delivery:
    """What one callback brought: samples (n, channels) at the card's rate, and what was lost ahead of them."""

    samples: FloatArray
    end_monotonic_s: float
    end_utc_s: float
    lost_samples: int


class SoundCard:
    """A live source: records the wanted channels of one sound card.

    A card that does not take 16 kHz is opened at its native rate and resampled. Sound that the card or we lost makes a
    gap: `lost_samples` of the block after it, and of the source in all.

    Args:
        device: its name, or a part that no other card's name holds; None is the system's default card.
        channels: counted from 0, one block each in this order.

    Raises:
        UnavailableError: no PortAudio, no such card, too few channels, or another program holds it.
    """

    live = True

    def __init__(self, device: str | None, channels: Sequence[int], *, stall_s: float = _STALL_S) -> None:
        self._sounddevice = portaudio()
        self._device = choose_device(list_devices(), device)
        _check_channels(self._device, channels)
        self.name = f"sound card {self._device.name!r}"
        self.lost_samples = 0
        self._channels = list(channels)
        self._stall_s = stall_s
        self._closed = threading.Event()
        self._stopping = threading.Lock()
        # Where a sound server stands between, one channel would be the mean of all that the card has: take two.
        n_channels = min(max(2, max(channels) + 1), self._device.channels)
        self.rate_hz = SAMPLE_RATE_HZ if takes_rate(self._device, n_channels) else self._device.native_rate_hz
        self._deliveries: queue.Queue[_Delivery | None] = queue.Queue(round(_QUEUE_S / _BLOCK_S))
        self._dropped = 0  # samples at the card's rate since the last delivery that found room
        self._previous_end_s: float | None = None  # monotonic, of the latest callback
        try:
            self._stream = self._sounddevice.RawInputStream(
                device=self._device.index,
                channels=n_channels,
                samplerate=self.rate_hz,
                blocksize=round(_BLOCK_S * self.rate_hz),
                latency=_CARD_BUFFER_S,
                dtype="float32",
                callback=self._on_sound,
                finished_callback=self._wake,
            )
        except self._sounddevice.PortAudioError as error:
            raise UnavailableError(cannot_open(self._device, error)) from error

    def __iter__(self) -> Iterator[tuple[Block, ...]]:
        """Yield one block per wanted channel until `close`.

        Raises:
            UnavailableError: the card cannot be started.
            TemporaryError: it stopped delivering.
        """
        maker = BlockMaker(self.rate_hz, len(self._channels))
        try:
            self._start()
            while (delivery := self._next()) is not None:
                blocks = maker.blocks(
                    delivery.samples,
                    end_monotonic_s=delivery.end_monotonic_s,
                    end_utc_s=delivery.end_utc_s,
                    lost_samples=delivery.lost_samples,
                )
                self.lost_samples += blocks[0].lost_samples
                yield blocks
        finally:
            self.close()

    def _start(self) -> None:
        with self._stopping:
            if self._closed.is_set():
                return
            try:
                self._stream.start()
            except self._sounddevice.PortAudioError as error:
                raise UnavailableError(cannot_open(self._device, error)) from error

    def _next(self) -> _Delivery | None:
        """Wait for sound; None after `close`."""
        if self._closed.is_set():
            return None
        try:
            delivery = self._deliveries.get(timeout=self._stall_s)
        except queue.Empty:
            raise TemporaryError(
                f"{self.name} delivered nothing for {self._stall_s:g} s; expected sound all the time; check its cable "
                "and that it is still listed by `edge-asd devices`"
            ) from None
        if delivery is None and not self._closed.is_set():
            raise TemporaryError(
                f"{self.name} ended its stream; expected sound all the time; check its cable and that it is still "
                "listed by `edge-asd devices`"
            )
        return None if self._closed.is_set() else delivery

    def _on_sound(self, buffer: Any, n_samples: int, stream_time: Any, status: Any) -> None:
        """Take a block, float32 (n, all channels); called by PortAudio's thread, which must not wait."""
        samples = np.frombuffer(buffer, dtype=np.float32).reshape(n_samples, -1)
        # The stream's clock is PortAudio's own and may step: only how long ago the last sample was heard is carried
        # over. Some drivers leave the time out (0) or run ahead of it.
        begin_s = stream_time.inputBufferAdcTime
        age_s = max(0.0, stream_time.currentTime - begin_s - n_samples / self.rate_hz) if begin_s > 0 else 0.0
        now_s = time.monotonic()
        end_s = now_s - age_s
        lost_samples = self._dropped
        if self._previous_end_s is not None:
            due_s = self._previous_end_s + n_samples / self.rate_hz
            if status.input_overflow:
                lost_samples += max(1, round((end_s - due_s) * self.rate_hz))
            elif end_s - due_s < _MAX_JITTER_S:
                end_s = min(end_s, due_s + _MAX_DRIFT * n_samples / self.rate_hz)
        self._previous_end_s = end_s
        delivery = _Delivery(
            samples[:, self._channels],  # a copy: the card reuses its buffer
            end_s,
            time.time() - (now_s - end_s),
            lost_samples,
        )
        try:
            self._deliveries.put_nowait(delivery)
        except queue.Full:
            self._dropped = lost_samples + n_samples
        else:
            self._dropped = 0

    def _wake(self) -> None:
        """Wake the reader; when the queue is full, it is not asleep."""
        try:
            self._deliveries.put_nowait(None)
        except queue.Full:
            return

    def close(self) -> None:
        """End the iteration and let go of the card, within `_CLOSE_S` even if the sound server is dead."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._wake()
        stopper = threading.Thread(target=self._stop, name="stop sound card", daemon=True)
        stopper.start()
        stopper.join(_CLOSE_S)
        if stopper.is_alive():
            LOG.warning("%s does not answer; it is left as it is", self.name)
            # PortAudio's own end would wait for the same card and keep the process from ending.
            atexit.unregister(self._sounddevice._exit_handler)  # noqa: SLF001 - sounddevice offers no other way

    def _stop(self) -> None:
        with self._stopping:
            self._stream.close()  # aborts a stream that runs


def _check_channels(device: SoundDevice, channels: Sequence[int]) -> None:
    for channel in channels:
        if not 0 <= channel < device.channels:
            raise UnavailableError(
                f"sound card {device.name!r} has {device.channels} channel(s); channel {channel} was asked for; "
                f"expected 0 to {device.channels - 1}; choose another channel or another card"
            )

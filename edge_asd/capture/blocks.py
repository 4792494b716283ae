"""What a sound card delivers in, at its own rate and with its losses, blocks at 16 kHz out."""

from __future__ import annotations

import numpy as np
import soxr

from edge_asd.capture.clips import SAMPLE_RATE_HZ
from edge_asd.types import Block, FloatArray


class BlockMaker:
    """Resamples the sound of one card and says of each block when it ended and what is missing ahead of it.

    The resampler looks ahead: it holds the newest few milliseconds back, so a block ends that much earlier than what
    was delivered. Across a gap it starts afresh, and what it held back is lost with the gap.

    Args:
        rate_hz: of the card. n_channels: how many are delivered.
    """

    def __init__(self, rate_hz: int, n_channels: int) -> None:
        self._rate_hz = rate_hz
        self._n_channels = n_channels
        self._resampler: soxr.ResampleStream | None = None
        self._start()

    def _start(self) -> None:
        self._in_samples = 0  # since the start or the last gap, at the card's rate
        self._out_samples = 0  # the same at 16 kHz
        if self._rate_hz != SAMPLE_RATE_HZ:
            self._resampler = soxr.ResampleStream(self._rate_hz, SAMPLE_RATE_HZ, self._n_channels, dtype="float32")

    def blocks(
        self, samples: FloatArray, *, end_monotonic_s: float, end_utc_s: float, lost_samples: int
    ) -> tuple[Block, ...]:
        """Return one block per channel.

        samples: (n, channels) float32 at the card's rate. lost_samples: missing ahead of them, at the card's rate.
        """
        lost = 0
        if lost_samples:
            held_back_s = self._in_samples / self._rate_hz - self._out_samples / SAMPLE_RATE_HZ
            lost = max(1, round((lost_samples / self._rate_hz + held_back_s) * SAMPLE_RATE_HZ))
            self._start()
        self._in_samples += len(samples)
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples)  # (n * 16 kHz / rate, channels)
        self._out_samples += len(samples)
        held_back_s = self._in_samples / self._rate_hz - self._out_samples / SAMPLE_RATE_HZ
        return tuple(
            Block(
                samples=np.ascontiguousarray(samples[:, channel]),
                end_monotonic_s=end_monotonic_s - held_back_s,
                end_utc_s=end_utc_s - held_back_s,
                lost_samples=lost,
            )
            for channel in range(self._n_channels)
        )

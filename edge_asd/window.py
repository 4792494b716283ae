"""Blocks of one channel in, overlapping windows out, none of which spans a gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edge_asd.types import Block, FeatureSpec, FloatArray, Window


class Windower:
    """Cuts a channel's sound into windows, one each hop, whatever the sizes of its blocks.

    The first window comes when a whole one has been heard since the start or the latest gap. Memory is one window.

    Args:
        spec: says how long a window is.
        hop_samples: the step from window to window; longer than a window, what lies between is not looked at.

    Raises:
        ValueError: hop_samples is below 1.
    """

    def __init__(self, spec: FeatureSpec, hop_samples: int) -> None:
        if hop_samples < 1:
            raise ValueError(f"hop_samples is {hop_samples}; expected 1 or more")
        self._sample_rate_hz = spec.sample_rate_hz
        self._hop_samples = hop_samples
        self._ring: FloatArray = np.zeros(spec.window_samples, dtype=np.float32)
        self._write_at = 0
        self._missing_samples = spec.window_samples  # until the next window is whole
        self._afresh = True
        self._heard_samples = 0  # since the end of the window before
        self._lost_samples = 0

    def push(self, block: Block) -> list[Window]:
        """Windows that `block` completes, oldest first; their waves are copies and stay as they are."""
        if block.lost_samples > 0:
            self._lost_samples += block.lost_samples
            self._missing_samples = len(self._ring)
            self._afresh = True
        windows = []
        rest = block.samples
        while len(rest):
            taken = rest[: self._missing_samples]
            rest = rest[len(taken) :]
            self._write(taken)
            self._heard_samples += len(taken)
            self._missing_samples -= len(taken)
            if not self._missing_samples:
                windows.append(self._cut(block, len(rest)))
        return windows

    def _write(self, samples: FloatArray) -> None:
        samples = samples[-len(self._ring) :]
        until_wrap = samples[: len(self._ring) - self._write_at]
        wrapped = samples[len(until_wrap) :]
        self._ring[self._write_at : self._write_at + len(until_wrap)] = until_wrap
        self._ring[: len(wrapped)] = wrapped
        self._write_at = (self._write_at + len(samples)) % len(self._ring)

    def _cut(self, block: Block, samples_after: int) -> Window:
        """The window that ends `samples_after` samples ahead of the end of `block`."""
        wave: FloatArray = np.concatenate((self._ring[self._write_at :], self._ring[: self._write_at]))
        wave.flags.writeable = False
        before_end_s = samples_after / self._sample_rate_hz
        window = Window(
            wave=wave,
            end_monotonic_s=block.end_monotonic_s - before_end_s,
            end_utc_s=block.end_utc_s - before_end_s,
            fresh_samples=len(wave) if self._afresh else min(self._hop_samples, len(wave)),
            heard_samples=self._heard_samples,
            lost_samples=self._lost_samples,
        )
        self._missing_samples = self._hop_samples
        self._afresh = False
        self._heard_samples = self._lost_samples = 0
        return window


def newest(windows: Sequence[Window]) -> Window:
    """Return the last of several windows in a row, as if those before it had never been cut."""
    last = windows[-1]
    return replace(
        last,
        fresh_samples=min(sum(window.fresh_samples for window in windows), last.wave.size),
        heard_samples=sum(window.heard_samples for window in windows),
        lost_samples=sum(window.lost_samples for window in windows),
    )

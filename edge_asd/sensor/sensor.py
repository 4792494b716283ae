"""Windows of one machine and the losses of its capture in, what is wrong with the ear out."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from edge_asd.sensor.baseline import Baseline
from edge_asd.sensor.faults import NOT_FINITE, FaultKind, SensorFault, SensorSettings, fault_of_samples
from edge_asd.sensor.slices import SLICE_SAMPLES, SlicedWindow
from edge_asd.types import Block, FeatureSpec, FloatArray, Window

_LOSSES_OVER_S = 60.0
_MIN_GAPS = 3
"""One gap, or two, end by themselves: no window spans them."""

_NO_WINDOW_S = 30.0
"""Sound that gives no whole window for so long is interrupted too often."""

_CHANGES: Mapping[FaultKind, str] = {
    "muffled": "above 4.5 kHz the sound is {:.0f} dB lower than this machine was ever heard; check that nothing covers "
    "the microphone, and that it is dry and clean",
    "quieter": "the whole sound is {:.0f} dB quieter, all frequencies alike; check the recording level and the "
    "microphone's place",
}


class _ChangedBy(Protocol):
    """By how many dB the sound differs from the baseline; None below the limit."""

    def __call__(self, band_db: FloatArray, *, limit_db: float, again: bool) -> float | None: ...


class Sensor:
    """The health of one machine's ear.

    A window is at fault when a faulty stretch is anywhere within it: a fault ends with the first window that has none
    left, and so does the silence of its score.

    Args:
        spec: says how long a window is.
        settings: when it is at fault.
        baseline: what the machine sounded like while it was learned; what is missing is learned from healthy windows.
    """

    def __init__(self, spec: FeatureSpec, settings: SensorSettings, baseline: Baseline) -> None:
        self.fault: SensorFault | None = None
        self.baseline = baseline
        self._spec = spec
        self._settings = settings
        self._sliced = SlicedWindow(spec)
        self.restart()

    def restart(self) -> None:
        """Forget what was lost: the source fell silent, which is told by itself."""
        self._losses: deque[tuple[float, int]] = deque()  # (end_monotonic_s, lost_samples) within a minute
        self._whole_s: float | None = None  # end of the latest window, or of the first sound

    def hear(self, block: Block) -> SensorFault | None:
        """Take note of a block, ahead of the windows that it completes; a fault that begins without any."""
        now_s = block.end_monotonic_s
        if self._whole_s is None:
            self._whole_s = now_s  # what is missing ahead of the first sound has been told
        elif block.lost_samples:
            self._losses.append((now_s, block.lost_samples))
        while self._losses and self._losses[0][0] < now_s - _LOSSES_OVER_S:
            self._losses.popleft()
        interrupted = len(self._losses) >= _MIN_GAPS and now_s - self._whole_s >= _NO_WINDOW_S
        if not interrupted or self._settings.drop_out_share is None or self.fault is not None:
            return None
        self.fault = SensorFault(
            kind="drop_outs",
            reason=f"the sound was interrupted {len(self._losses)} times within a minute, so that no window was whole; "
            "check cable, USB hub and power supply, and whether the device is overloaded",
        )
        return self.fault

    def judge(self, window: Window) -> SensorFault | None:
        """Say what is wrong with the ear that heard this window; it is `fault` until the next."""
        self._whole_s = window.end_monotonic_s
        self.fault = self._judge(window)
        return self.fault

    def _judge(self, window: Window) -> SensorFault | None:
        # One product instead of a look at every sample: it is finite where they are.
        with np.errstate(over="ignore", invalid="ignore"):
            power = float(np.dot(window.wave, window.wave))
        if not math.isfinite(power):
            self._sliced = SlicedWindow(self._spec)  # none of it is to be kept
            return NOT_FINITE
        slices = self._sliced.push(window.wave, window.fresh_samples)
        slice_s = SLICE_SAMPLES / self._spec.sample_rate_hz
        fault = fault_of_samples(slices, self._settings, slice_s=slice_s) or self._lost_too_much()
        if fault is not None:
            return fault
        band_db = slices.band_db.mean(axis=0)
        if self.baseline.learned:
            return self._changed(band_db)
        self.baseline.learn(band_db, window.fresh_samples / self._spec.sample_rate_hz)
        return None

    def _lost_too_much(self) -> SensorFault | None:
        limit = self._settings.drop_out_share
        share = sum(lost for _, lost in self._losses) / (_LOSSES_OVER_S * self._spec.sample_rate_hz)
        if limit is None or len(self._losses) < _MIN_GAPS or share < limit:
            return None
        return SensorFault(
            kind="drop_outs",
            reason=f"{min(share, 1.0):.0%} of the sound of the last minute was lost in {len(self._losses)} gaps; "
            f"expected less than {limit:.0%}; check cable, USB hub and power supply, and whether the device is "
            "overloaded",
        )

    def _changed(self, band_db: FloatArray) -> SensorFault | None:
        """What only the baseline tells."""
        settings, baseline = self._settings, self.baseline
        checks: tuple[tuple[FaultKind, float | None, _ChangedBy], ...] = (
            ("muffled", settings.muffled_db, baseline.muffled_by_db),
            ("quieter", settings.quieter_db, baseline.quieter_by_db),
        )
        for kind, limit_db, changed_by_db in checks:
            again = self.fault is not None and self.fault.kind == kind
            change_db = None if limit_db is None else changed_by_db(band_db, limit_db=limit_db, again=again)
            if change_db is not None:
                return SensorFault(kind=kind, reason=_CHANGES[kind].format(change_db))
        return None

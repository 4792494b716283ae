"""The slices of a window in, the fault that its samples show by themselves out; and from where on each is one."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_asd.sensor.slices import Slices

FaultKind: TypeAlias = Literal[
    "not_finite", "silence", "stuck", "repeating", "dc", "clipping", "drop_outs", "muffled", "quieter"
]

_STILL_S = 0.48
"""Three slices: less than 5 % of a window, so that a silence is not told as drop-outs while it begins and ends."""

_REPEATING_S = 1.0
_SILENT_MEAN = 1e-3
"""Sound that stands still further from zero than this is not silent but stuck."""

_AUDIBLE = 1e-4
"""Runs of zeros in sound below -80 dBFS may be the steps of 16 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorSettings:
    """From where on an ear is at fault; None switches a check off. docs/sensor.md says why these.

    silence_dbfs: level below which sound is silent or stuck.
    repeats: whether sound that repeats itself sample by sample is a fault.
    dc_offset: mean of a window, full scale 1.
    clipping_share: share of a window's samples that are cut off.
    drop_out_share: share of the sound that is missing: zeros within a window, or losses within a minute.
    muffled_db: how much lower all high bands are than in any sound of the baseline with the same low bands.
    quieter_db: by how much all bands fell alike from a sound of the baseline.

    Raises:
        ValueError: a setting is not finite.
    """

    silence_dbfs: float | None = -90.0
    repeats: bool = True
    dc_offset: float | None = 0.1
    clipping_share: float | None = 0.1
    drop_out_share: float | None = 0.05
    muffled_db: float | None = 12.0
    quieter_db: float | None = 10.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{field.name} is {value}; expected a finite number or None")


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorFault:
    """What is wrong with an ear; the reason is a sentence for people: what was found and what to do."""

    kind: FaultKind
    reason: str


NOT_FINITE = SensorFault(
    kind="not_finite",
    reason="the sound holds samples that are NaN, infinite or far beyond full scale; expected -1..1; check the sound "
    "card's driver",
)


def fault_of_samples(slices: Slices, settings: SensorSettings, *, slice_s: float) -> SensorFault | None:
    """Return the first fault that holds, in an order in which a fault explains those after it."""
    return (
        _standing_still(slices, settings.silence_dbfs, slice_s)
        or (_repeating(slices, slice_s) if settings.repeats else None)
        or _off_zero(slices, settings.dc_offset)
        or _clipping(slices, settings.clipping_share)
        or _filled(slices, settings.drop_out_share, slice_s)
    )


def _standing_still(slices: Slices, limit_dbfs: float | None, slice_s: float) -> SensorFault | None:
    if limit_dbfs is None:
        return None
    begin, end = _longest_run(slices.deviation <= 10.0 ** (limit_dbfs / 20.0))
    still_s = (end - begin) * slice_s
    if still_s < _STILL_S - 1e-9:
        return None
    mean = float(slices.mean[begin:end].mean())
    if abs(mean) > _SILENT_MEAN:
        return SensorFault(
            kind="stuck",
            reason=f"the samples stood still at {mean:.3f} of full scale for {still_s:.1f} s; expected sound; check "
            "the microphone's power supply, unplug the sound card and plug it in again",
        )
    return SensorFault(
        kind="silence",
        reason=f"silence, below {limit_dbfs:g} dBFS, for {still_s:.1f} s; expected at least the noise of the hall; "
        "check that the microphone is plugged in, switched on and not muted",
    )


def _repeating(slices: Slices, slice_s: float) -> SensorFault | None:
    repeating_s = np.count_nonzero(slices.repeats) * slice_s
    if repeating_s < _REPEATING_S:
        return None
    return SensorFault(
        kind="repeating",
        reason=f"the same samples came again and again for {repeating_s:.1f} s; expected new sound; unplug the sound "
        "card and plug it in again, check its driver",
    )


def _off_zero(slices: Slices, limit: float | None) -> SensorFault | None:
    mean = float(slices.mean.mean())
    if limit is None or abs(mean) < limit:
        return None
    return SensorFault(
        kind="dc",
        reason=f"the sound is off zero by {mean:.2f} of full scale; expected less than {limit:g}; check the "
        "microphone's power supply and plug",
    )


def _clipping(slices: Slices, limit: float | None) -> SensorFault | None:
    share = float(slices.at_rail.mean())
    if limit is None or share < limit:
        return None
    return SensorFault(
        kind="clipping",
        reason=f"{share:.0%} of the sound is cut off; expected less than {limit:.0%}; turn the recording level down or "
        "move the microphone away, and look whether the machine is louder than ever",
    )


def _filled(slices: Slices, limit: float | None, slice_s: float) -> SensorFault | None:
    share = float(slices.filled.mean())
    if limit is None or share < limit or float(np.median(slices.deviation)) < _AUDIBLE:
        return None
    return SensorFault(
        kind="drop_outs",
        reason=f"{share:.0%} of the last {len(slices.filled) * slice_s:.0f} s are zeros within sound; expected less "
        f"than {limit:.0%}; check cable, USB hub and power supply",
    )


def _longest_run(flags: NDArray[np.bool_]) -> tuple[int, int]:
    """Begin and end of the longest stretch of True."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False)).reshape(-1, 2)
    if not len(edges):
        return 0, 0
    begin, end = edges[np.argmax(edges[:, 1] - edges[:, 0])]
    return int(begin), int(end)

"""Successive windows in, what each sixth of a second within them measures out; only fresh sound is looked at."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_asd.types import FeatureSpec, FloatArray

SLICE_SAMPLES = 2_560
"""The step that all hops are multiples of: 0.16 s."""

BAND_EDGES_HZ = (
    *(60.0, 200.0, 400.0, 600.0, 800.0, 1_000.0),
    *(1_200.0, 1_450.0, 1_750.0, 2_100.0, 2_550.0, 3_100.0, 3_750.0, 4_500.0),
    *(5_450.0, 6_550.0, 7_500.0),
)
"""Of 16 bands: below 60 Hz is rumble, above 7.5 kHz what resampling leaves."""

LOW_BANDS, HIGH_BANDS = slice(0, 5), slice(13, 16)
"""Below 1 kHz a cover over a microphone changes nothing; above 4.5 kHz it takes most away."""

_FULL_SCALE = 0.985
"""Samples from here on are at the rail; a resampler leaves what was cut a little below full scale."""

_LOWEST_RAIL = 0.1
"""What is cut below full scale (ahead of the converter) has flat tops; quieter, they may be the steps of 16 bits."""

_ZERO_RUN_SAMPLES = 32
"""2 ms of exact zeros within sound were filled in by a driver."""

_PROBE_STEP = 40
_MAX_LAG_SAMPLES = 32_000
_MIN_LAG_SAMPLES = 16
_SAME = 4e-6
"""An eighth of a 16-bit step: what a resampler's rounding may differ by."""

_REPEAT_DEVIATION = 1e-4
"""Sound below -80 dBFS has so few steps that it may repeat by chance."""

_POWER_FLOOR = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices:
    """What was measured of slices of sound, oldest first, n of them.

    mean, deviation: (n,) of the samples, full scale 1. at_rail: (n,) share of samples at an extreme that is cut off.
    filled: (n,) share of samples in runs of exact zeros. repeats: (n,) whether it is, sample by sample, the sound of at
    most 2 s before. band_db: (n, 16) power in dB.
    """

    mean: FloatArray
    deviation: FloatArray
    at_rail: FloatArray
    filled: FloatArray
    repeats: NDArray[np.bool_]
    band_db: FloatArray

    def followed_by(self, later: Slices, *, at_most: int) -> Slices:
        """The newest `at_most` of these and of `later`."""
        joined = {
            field.name: np.concatenate((getattr(self, field.name), getattr(later, field.name)))[-at_most:]
            for field in fields(self)
        }
        return Slices(**joined)


class SlicedWindow:
    """The slices of a machine's present window."""

    def __init__(self, spec: FeatureSpec) -> None:
        self._spec = spec
        self._n_max = spec.window_samples // SLICE_SAMPLES
        self._slices: Slices | None = None

    def push(self, wave: FloatArray, fresh_samples: int) -> Slices:
        """Return the slices of the next window; the older of them are kept from the windows before.

        wave: (window_samples,) of finite samples. fresh_samples: how many of its newest no earlier window held.
        """
        n_fresh = min(-(-fresh_samples // SLICE_SAMPLES), self._n_max)
        if self._slices is None or n_fresh == self._n_max:
            self._slices = measure(wave, self._n_max, self._spec.sample_rate_hz)
        elif n_fresh:
            fresh = measure(wave, n_fresh, self._spec.sample_rate_hz)
            self._slices = self._slices.followed_by(fresh, at_most=self._n_max)
        return self._slices


def measure(wave: FloatArray, n: int, sample_rate_hz: int) -> Slices:
    """Measure the newest `n` slices of a wave (samples,); what lies before them is what they may repeat."""
    newest = wave[-n * SLICE_SAMPLES :]
    slices = newest.reshape(n, SLICE_SAMPLES)
    deviation = slices.std(axis=1)
    return Slices(
        mean=slices.mean(axis=1),
        deviation=deviation,
        at_rail=_share_at_rail(slices),
        filled=_share_filled(newest, n),
        repeats=_repeats(wave, deviation),
        band_db=_band_db(slices, sample_rate_hz),
    )


def _share_at_rail(slices: FloatArray) -> FloatArray:
    share = np.zeros(len(slices), dtype=np.float32)
    moves = slices.max(axis=1) - slices.min(axis=1) >= _LOWEST_RAIL  # else it is stuck, not cut off
    for side in (slices, -slices):
        top = side.max(axis=1)
        rail = np.where((top >= _LOWEST_RAIL) & moves, np.minimum(top, _FULL_SCALE), np.inf)
        share += (side >= rail[:, np.newaxis]).mean(axis=1, dtype=np.float32)
    return share


def _share_filled(newest: FloatArray, n: int) -> FloatArray:
    zero = newest == 0.0
    if np.count_nonzero(zero) >= _ZERO_RUN_SAMPLES:
        edges = np.flatnonzero(np.diff(zero, prepend=False, append=False))
        for begin, end in edges.reshape(-1, 2):
            if end - begin < _ZERO_RUN_SAMPLES:
                zero[begin:end] = False
    else:
        zero[:] = False
    share: FloatArray = zero.reshape(n, -1).mean(axis=1, dtype=np.float32)
    return share


def _repeats(wave: FloatArray, deviation: FloatArray) -> NDArray[np.bool_]:
    repeats = np.zeros(len(deviation), dtype=np.bool_)
    for index in np.flatnonzero(deviation >= _REPEAT_DEVIATION):
        repeats[index] = _repeats_before(wave, len(wave) - (len(deviation) - int(index)) * SLICE_SAMPLES)
    return repeats


def _repeats_before(wave: FloatArray, begin: int) -> bool:
    """Whether the slice that begins at that sample was heard before, at most _MAX_LAG_SAMPLES earlier."""
    present = wave[begin : begin + SLICE_SAMPLES]
    # Only where its loudest sample was heard before can all of it have been: few such places are left to be compared.
    loudest = int(np.abs(present).argmax())
    earliest = max(0, begin - _MAX_LAG_SAMPLES)
    before = wave[earliest + loudest : begin + loudest - _MIN_LAG_SAMPLES]
    places = earliest + np.flatnonzero(np.abs(before - present[loudest]) <= _SAME)
    for probe in range(0, SLICE_SAMPLES, _PROBE_STEP):
        if not places.size:
            return False
        places = places[np.abs(wave[places + probe] - present[probe]) <= _SAME]
    return any(bool((np.abs(wave[at : at + SLICE_SAMPLES] - present) <= _SAME).all()) for at in places)


def _band_db(slices: FloatArray, sample_rate_hz: int) -> FloatArray:
    taper, edges = _analysis(sample_rate_hz)
    spectrum = np.fft.rfft(slices * taper, axis=1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)  # (n, bins)
    band = np.add.reduceat(power, edges, axis=1)[:, :-1] / np.diff(edges)  # (n, 16)
    band_db: FloatArray = np.asarray(10.0 * np.log10(band / SLICE_SAMPLES + _POWER_FLOOR), dtype=np.float32)
    return band_db


@lru_cache(maxsize=2)
def _analysis(sample_rate_hz: int) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return Hann's window and the bins at which bands begin and the last one ends."""
    edges = np.round(np.array(BAND_EDGES_HZ) * SLICE_SAMPLES / sample_rate_hz).astype(np.int64)
    return np.hanning(SLICE_SAMPLES).astype(np.float32), edges

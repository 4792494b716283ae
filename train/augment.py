"""Recordings of one class and a random generator in, one training window out, altered as a fault might where asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import soxr

from edge_asd.types import FeatureSpec, FloatArray
from train.settings import AugmentSettings

_SAMPLE_RATE_HZ = FeatureSpec().sample_rate_hz


def draw_window(
    first: FloatArray,
    same_class: Sequence[FloatArray],
    settings: AugmentSettings,
    rng: np.random.Generator,
    n_samples: int,
) -> FloatArray:
    """Draw a window (n_samples,) float32 in -1..1.

    Args:
        first: (n,) the recording that the window, or its first piece, is cut from.
        same_class: recordings that further pieces are cut from.
        settings: what may happen to the window.
        rng: all chance comes from it.
        n_samples: length of the window.
    """
    factor = np.exp(rng.uniform(-1.0, 1.0) * np.log1p(settings.speed_share))
    n_source = round(n_samples * factor)
    wave = _join(first, same_class, int(rng.integers(1, settings.join_pieces + 1)), rng, n_source)
    if n_source != n_samples:
        wave = soxr.resample(wave, n_source, n_samples, quality="MQ")
        wave = np.pad(wave, (0, max(0, n_samples - len(wave))), mode="edge")[:n_samples]
    if settings.gain_db:
        wave = wave * _factor_from_db(rng.uniform(-settings.gain_db, settings.gain_db))
    if settings.noise_snr_db is not None:
        snr_db = settings.noise_snr_db + rng.uniform(0.0, 30.0)
        wave = wave + rng.standard_normal(n_samples, dtype=np.float32) * _rms(wave) * _factor_from_db(-snr_db)
    return np.clip(wave, -1.0, 1.0).astype(np.float32)


def _join(
    first: FloatArray, same_class: Sequence[FloatArray], n_pieces: int, rng: np.random.Generator, n_samples: int
) -> FloatArray:
    cuts = np.sort(rng.integers(0, n_samples + 1, n_pieces - 1))
    lengths = np.diff(cuts, prepend=0, append=n_samples)
    pieces = []
    for index, length in enumerate(lengths):
        source = first if index == 0 else same_class[int(rng.integers(len(same_class)))]
        spare = len(source) - length
        start = int(rng.integers(spare + 1)) if spare >= 0 else int(rng.integers(len(source)))
        pieces.append(np.take(source, np.arange(start, start + length), mode="wrap"))  # a short recording repeats
    return np.concatenate(pieces)


def alter_window(wave: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Change a window (n,) as a fault might: louder, coloured otherwise, modulated, noisier; at least one of them.

    The changes are broad, so that "not as this machine sounds" is learnt; their ranges were set knowing how the damaged
    recordings of bldc_motor sound, so figures on those are no blind test.
    """
    changes = rng.random(4) < 0.5
    changes[rng.integers(4)] = True
    louder, coloured, modulated, noisier = changes
    altered = wave.astype(np.float32)
    if coloured:
        altered = _colour(altered, rng)
    if modulated:
        seconds = np.arange(len(wave)) / _SAMPLE_RATE_HZ
        depth, rate_hz = rng.uniform(0.4, 1.0), np.exp(rng.uniform(np.log(1.0), np.log(80.0)))
        altered = altered * (1.0 + depth * np.sin(2.0 * np.pi * (rate_hz * seconds + rng.random()))).astype(np.float32)
    if noisier:
        noise = _colour(rng.standard_normal(len(wave), dtype=np.float32), rng)
        altered = altered + noise * (_rms(altered) / _rms(noise) * _factor_from_db(rng.uniform(-8.0, 8.0)))
    if louder:
        altered = altered * _factor_from_db(rng.uniform(10.0, 40.0))
    return np.clip(altered, -1.0, 1.0).astype(np.float32)


def _colour(wave: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Filter by a smooth random gain over log frequency: 8 knots, 8 dB standard deviation, mean 0 dB."""
    n_bins = len(wave) // 2 + 1
    knots_db = rng.normal(0.0, 8.0, 8)
    knots_db -= knots_db.mean()
    position = np.log1p(np.arange(n_bins) / (n_bins * 0.02))  # about linear below 160 Hz, then logarithmic
    gain_db = np.interp(position, np.linspace(0.0, position[-1], len(knots_db)), knots_db)
    filtered = np.fft.irfft(np.fft.rfft(wave) * 10.0 ** (gain_db / 20.0), len(wave))
    return filtered.astype(np.float32)


def _rms(wave: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) + 1e-12


def _factor_from_db(gain_db: float) -> np.float32:
    return np.float32(10.0 ** (gain_db / 20.0))

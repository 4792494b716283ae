"""Machine windows and noise at a signal-to-noise ratio in, the noise at its level out; and whether there is room."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_asd.errors import UsageError
from edge_asd.types import FloatArray
from train.data import Waves


def noise_at_snr(clean: FloatArray, noise: FloatArray, snr_db: NDArray[np.floating] | float) -> FloatArray:
    """Scale noise (B, n) so that the power of clean (B, n) is snr_db (B,) above its own; neither may be silent."""
    ratio = _power(clean) / _power(noise) * 10.0 ** (-np.asarray(snr_db, dtype=np.float64) / 10.0)  # (B,)
    scaled: FloatArray = noise * np.sqrt(ratio)[..., None].astype(np.float32)
    return scaled


def _power(wave: FloatArray) -> NDArray[np.float64]:
    power: NDArray[np.float64] = np.mean(np.square(wave, dtype=np.float64), axis=-1)
    return power


def refuse_clipping(machines: Waves, pieces: Waves, *, lowest_snr_db: float, gain_db: float, n_samples: int) -> None:
    """Refuse a signal-to-noise ratio at which a mixture may pass full scale, as no microphone would give it.

    Every pair of a machine clip and a piece of noise is held against the worst that its peaks could add up to.

    Raises:
        UsageError: says how far above it is, and the gain that leaves room.
    """
    peaks, levels = np.array([_loudest(wave, n_samples) for wave in machines]).T  # (machines,)
    crests = np.array([_crest(wave, n_samples) for wave in pieces])  # (pieces,)
    noise_gain = 10.0 ** (-lowest_snr_db / 20.0)
    machine_gain = 10.0 ** (gain_db / 20.0)
    highest = machine_gain * float(np.max(peaks + levels * noise_gain * crests.max()))
    if highest > 1.0:
        room = (1.0 / machine_gain - peaks) / (levels * noise_gain)  # (machines,) crests for which there is
        above = int(np.sum(len(crests) - np.searchsorted(np.sort(crests), room, side="right")))
        too_much_db = 20.0 * np.log10(highest)
        raise UsageError(
            f"--snr-db {lowest_snr_db:g}: {above} of {len(peaks) * len(crests)} pairs of a machine clip and noise may "
            f"pass full scale, by up to {too_much_db:.1f} dB; expected room for both; give --gain-db "
            f"{np.floor(10.0 * (gain_db - too_much_db)) / 10.0:g} or a higher --snr-db"
        )


def _loudest(wave: FloatArray, n_samples: int) -> tuple[float, float]:
    """Peak of a clip, and the highest RMS that a window of it may have; a shorter clip is repeated."""
    squares = np.square(wave, dtype=np.float64)
    if len(wave) <= n_samples:
        energy = -(-n_samples // len(wave)) * squares.sum()
    else:
        total = np.concatenate([[0.0], np.cumsum(squares)])
        energy = (total[n_samples:] - total[:-n_samples]).max()
    return float(np.abs(wave).max()), float(np.sqrt(energy / n_samples))


def _crest(wave: FloatArray, n_samples: int) -> float:
    """Highest ratio of the peak to the RMS of a window that the piece is repeated to fill."""
    power = n_samples // len(wave) * np.sum(np.square(wave, dtype=np.float64)) / n_samples
    return float(np.abs(wave).max() / np.sqrt(power))

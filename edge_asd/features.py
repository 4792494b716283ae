"""Waveforms in, log-mel spectrograms in dB out: the numpy reference that every other front end is tested against."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_asd.types import FeatureSpec, FloatArray

# A batch of frames and its spectrum stay in a core's second-level cache (faster by a third than the window at once),
# and each mel product stays below the size (m * n * k = 2**18) from which OpenBLAS wakes its threads; those spin on
# after the product, against the engine's.
_FRAMES_PER_BATCH = 32
_MELS_PER_BLOCK = 16


def log_mel_db(wave: FloatArray, spec: FeatureSpec | None = None) -> FloatArray:
    """Log-mel spectrogram, 10 log10(max(power, floor)), of whole windows.

    Args:
        wave: (..., window_samples) float32 in -1..1.
        spec: the front end's numbers; by default those of the published method.

    Returns:
        (..., n_mels, n_frames) float32, in dB.

    Raises:
        ValueError: the last axis is not window_samples long.

    Source: TFSTgram OS-SCL; equals librosa's `melspectrogram` with `center=True, pad_mode="constant"`.
    """
    front_end = _front_end(spec or FeatureSpec())
    spec = front_end.spec
    wave = np.asarray(wave, dtype=np.float32)
    if wave.shape[-1:] != (spec.window_samples,):
        raise ValueError(f"wave has shape {wave.shape}; expected (..., {spec.window_samples})")
    log_mel = np.empty((*wave.shape[:-1], spec.n_mels, spec.n_frames), dtype=np.float32)
    for index in np.ndindex(wave.shape[:-1]):
        front_end.fill(log_mel[index], wave[index], 0, spec.n_frames)
    return log_mel


class LogMelStream:
    """Log-mel of successive windows of one machine, which computes only the frames that the hop changed."""

    def __init__(self, spec: FeatureSpec | None = None) -> None:
        self._front_end = _front_end(spec or FeatureSpec())
        self._latest: FloatArray | None = None

    def log_mel_db(self, wave: FloatArray, fresh_samples: int) -> FloatArray:
        """Log-mel of the next window, as `log_mel_db` gives it (within float32 rounding, below 1e-5 dB).

        Frames are reused where the window moved on by whole STFT hops; the edge frames, which hold zero padding, never
        are. Any other step, and the first window, is computed whole.

        Args:
            wave: (window_samples,) float32.
            fresh_samples: how many of its newest samples the window of the call before did not hold.

        Returns:
            (n_mels, n_frames) float32 in dB, read-only: the next call reads it.

        Raises:
            ValueError: wave is not one whole window, or fresh_samples is negative.
        """
        spec = self._front_end.spec
        if wave.shape != (spec.window_samples,):
            raise ValueError(f"wave has shape {wave.shape}; expected ({spec.window_samples},)")
        if fresh_samples < 0:
            raise ValueError(f"fresh_samples is {fresh_samples}; expected 0 or more")
        wave = np.asarray(wave, dtype=np.float32)
        shift, rest = divmod(fresh_samples, spec.hop_samples)
        log_mel = np.empty((spec.n_mels, spec.n_frames), dtype=np.float32)
        first, last = self._front_end.inner_frames  # frames first..last-1 hold no padding
        if self._latest is None or rest or last - shift <= first:
            self._front_end.fill(log_mel, wave, 0, spec.n_frames)
        else:
            log_mel[:, first : last - shift] = self._latest[:, first + shift : last]
            self._front_end.fill(log_mel, wave, 0, first)
            self._front_end.fill(log_mel, wave, last - shift, spec.n_frames)
        log_mel.flags.writeable = False
        self._latest = log_mel
        return log_mel


def mel_filters(spec: FeatureSpec) -> NDArray[np.float64]:
    """Triangular mel filters (n_mels, n_fft // 2 + 1), each of unit area over frequency.

    Source: M. Slaney, Auditory Toolbox (1998), as librosa's `filters.mel(htk=False, norm="slaney")`.
    """
    edges_mel = np.linspace(_mel_from_hz(spec.f_min_hz), _mel_from_hz(spec.f_max_hz), spec.n_mels + 2)
    edges_hz = _hz_from_mel(edges_mel)
    bins_hz = np.linspace(0.0, spec.sample_rate_hz / 2, spec.n_fft // 2 + 1)
    lower, centre, upper = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    rising = (bins_hz - lower) / (centre - lower)
    falling = (upper - bins_hz) / (upper - centre)
    filters: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (upper - lower))
    return filters


def hann_window(spec: FeatureSpec) -> FloatArray:
    """The STFT's periodic Hann window (n_fft,) float32."""
    phase = 2.0 * np.pi * np.arange(spec.n_fft) / spec.n_fft
    return (0.5 - 0.5 * np.cos(phase)).astype(np.float32)


# Slaney's scale: linear below 1 kHz (3 mels to 200 Hz), then 27 mels to a factor of 6.4.
_BREAK_HZ, _BREAK_MEL, _HZ_PER_MEL = 1000.0, 15.0, 200.0 / 3.0
_LOG_STEP = math.log(6.4) / 27.0


def _mel_from_hz(frequency_hz: float) -> float:
    if frequency_hz < _BREAK_HZ:
        return frequency_hz / _HZ_PER_MEL
    return _BREAK_MEL + math.log(frequency_hz / _BREAK_HZ) / _LOG_STEP


def _hz_from_mel(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(mel < _BREAK_MEL, mel * _HZ_PER_MEL, _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _MelBlock:
    """Neighbouring mel filters and the stretch of the spectrum that they look at; elsewhere they are zero."""

    mels: slice
    bins: slice
    weights: FloatArray  # (bins, mels)


class _FrontEnd:
    """What a spec fixes once and for all: STFT window, mel filters, and which frames hold padding."""

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        self.half = spec.n_fft // 2
        first = -(-self.half // spec.hop_samples)
        last = max(first, (spec.window_samples - spec.n_fft + self.half) // spec.hop_samples + 1)
        self.inner_frames = (first, last)
        self._taper = hann_window(spec)
        self._blocks = _mel_blocks(spec)

    def fill(self, log_mel: FloatArray, wave: FloatArray, start: int, stop: int) -> None:
        """Write frames start..stop-1 of `wave` (window_samples,) into `log_mel` (n_mels, n_frames)."""
        first, last = (min(max(edge, start), stop) for edge in self.inner_frames)
        with np.errstate(over="ignore", invalid="ignore"):  # what is no sound shows in the result, not as a warning
            for begin, end in ((start, first), (first, last), (last, stop)):  # only the outer two meet the padding
                if begin < end:
                    log_mel[:, begin:end] = self._mel_power(self._frames(wave, begin, end)).T
        written = log_mel[:, start:stop]
        np.maximum(written, self.spec.power_floor, out=written)
        np.log10(written, out=written)
        written *= 10.0

    def _frames(self, wave: FloatArray, begin: int, end: int) -> FloatArray:
        """Frames begin..end-1 (frames, n_fft): a view of `wave`, copied only where it must be padded with zeros."""
        spec = self.spec
        lower = begin * spec.hop_samples - self.half
        upper = (end - 1) * spec.hop_samples - self.half + spec.n_fft
        padding = (max(0, -lower), max(0, upper - spec.window_samples))
        stretch = wave[max(0, lower) : upper]
        if any(padding):
            stretch = np.pad(stretch, padding)
        return np.lib.stride_tricks.sliding_window_view(stretch, spec.n_fft)[:: spec.hop_samples]

    def _mel_power(self, frames: FloatArray) -> FloatArray:
        """Mel power (frames, n_mels) of frames (frames, n_fft)."""
        spec = self.spec
        mel_power = np.empty((len(frames), spec.n_mels), dtype=np.float32)
        batch = min(_FRAMES_PER_BATCH, len(frames))
        tapered = np.empty((batch, spec.n_fft), dtype=np.float32)
        spectrum = np.empty((batch, spec.n_fft // 2 + 1), dtype=np.complex64)
        parts = spectrum.view(np.float32)  # (batch, 2 * bins): real, imaginary, real, ...
        power = np.empty(spectrum.shape, dtype=np.float32)
        for begin in range(0, len(frames), batch):
            n = min(batch, len(frames) - begin)
            np.multiply(frames[begin : begin + n], self._taper, out=tapered[:n])
            np.fft.rfft(tapered[:n], out=spectrum[:n])  # type: ignore[arg-type]  # numpy's stubs lack complex64
            np.square(parts[:n], out=parts[:n])
            np.add(parts[:n, ::2], parts[:n, 1::2], out=power[:n])
            for block in self._blocks:
                np.matmul(power[:n, block.bins], block.weights, out=mel_power[begin : begin + n, block.mels])
        return mel_power


def _mel_blocks(spec: FeatureSpec) -> tuple[_MelBlock, ...]:
    filters = mel_filters(spec)
    blocks = []
    for mel in range(0, spec.n_mels, _MELS_PER_BLOCK):
        mels = slice(mel, min(mel + _MELS_PER_BLOCK, spec.n_mels))
        used = np.flatnonzero(filters[mels].any(axis=0))
        lower, upper = (int(used[0]), int(used[-1]) + 1) if used.size else (0, 1)
        weights = np.ascontiguousarray(filters[mels, lower:upper].T, dtype=np.float32)
        blocks.append(_MelBlock(mels=mels, bins=slice(lower, upper), weights=weights))
    return tuple(blocks)


@lru_cache(maxsize=4)
def _front_end(spec: FeatureSpec) -> _FrontEnd:
    return _FrontEnd(spec)

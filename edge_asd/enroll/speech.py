"""A window in, whether somebody speaks in it out."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import webrtcvad
from numpy.typing import NDArray

from edge_asd.features import log_mel_db, mel_filters
from edge_asd.types import FeatureSpec, FloatArray

MIN_VOICED_SHARE = 0.3
MIN_SYLLABLES_DB = 3.2
"""Both are asked for. The detector of voices alone takes the hum of motors and belts for one (all clips of DCASE 2020's
ToyConveyor), the rhythm of syllables alone takes strokes and blows; docs/enroll.md has the figures."""

_SHORT_S = 2.0
_SHORT_STEP_S = 1.0
_MIN_SHORT_VOICED_SHARE = 0.5
_MIN_SHORT_SYLLABLES_DB = 4.5
"""Of a stretch of 2 s, which strokes and blows fill sooner than a window: more is asked for."""

_LEVEL = 0.1  # root mean square that the detector hears, whatever the recording level
_AGGRESSIVENESS = 2
_FRAME_S = 0.03
_VOICE_HZ = (150.0, 3_800.0)
_SYLLABLES_HZ = (2.0, 8.0)
_RANGE_DB = 50.0


def has_speech(wave: FloatArray, spec: FeatureSpec) -> bool:
    """Say whether a window (window_samples,) float32 holds speech about as loud as the machine, or louder.

    Speech must be both voiced (WebRTC's detector, in frames of 30 ms) and move in the rhythm of syllables: the level of
    mel bands from 150 to 3800 Hz, modulated at 2 to 8 Hz. That is asked of the whole window, and of each 2 s of it.

    Source: T. Houtgast and H. Steeneken, A review of the MTF concept (1985), for the modulation of speech.
    """
    level = float(np.std(wave, dtype=np.float64))
    if not level > 0.0:
        return False
    scaled = (wave * (_LEVEL / level)).astype(np.float32)
    if voiced_share(scaled, spec) >= MIN_VOICED_SHARE and syllables_db(scaled, spec) >= MIN_SYLLABLES_DB:
        return True
    n_short, step = round(_SHORT_S * spec.sample_rate_hz), round(_SHORT_STEP_S * spec.sample_rate_hz)
    return any(
        _is_short_speech(scaled[start : start + n_short], spec) for start in range(0, len(scaled) - n_short + 1, step)
    )


def _is_short_speech(stretch: FloatArray, spec: FeatureSpec) -> bool:
    if voiced_share(stretch, spec) < _MIN_SHORT_VOICED_SHARE:
        return False
    return syllables_db(np.resize(stretch, spec.window_samples), spec) >= _MIN_SHORT_SYLLABLES_DB


def voiced_share(wave: FloatArray, spec: FeatureSpec) -> float:
    """Share of the frames of a window in which WebRTC's detector hears a voice."""
    detector = webrtcvad.Vad(_AGGRESSIVENESS)
    samples = np.clip(np.round(wave * 32_767.0), -32_768, 32_767).astype("<i2")
    n_frame = round(_FRAME_S * spec.sample_rate_hz)
    frames = samples[: len(samples) // n_frame * n_frame].reshape(-1, n_frame)
    return float(np.mean([detector.is_speech(frame.tobytes(), spec.sample_rate_hz) for frame in frames]))


def syllables_db(wave: FloatArray, spec: FeatureSpec) -> float:
    """By how much the level of a mel band moves at the rate of syllables, root mean square, averaged over bands."""
    log_mel = log_mel_db(wave, spec)  # (n_mels, n_frames)
    bands = log_mel[_voice_bands(spec)].astype(np.float64)
    bands = np.maximum(bands, bands.max() - _RANGE_DB)
    taper = np.hanning(bands.shape[1])
    spectrum = np.fft.rfft((bands - bands.mean(axis=1, keepdims=True)) * taper, axis=1)
    rate_hz = np.fft.rfftfreq(bands.shape[1], spec.hop_samples / spec.sample_rate_hz)
    chosen = (rate_hz >= _SYLLABLES_HZ[0]) & (rate_hz <= _SYLLABLES_HZ[1])
    power = 2.0 * np.square(np.abs(spectrum[:, chosen])).sum(axis=1) / (bands.shape[1] * np.square(taper).sum())
    return float(np.sqrt(power).mean())


@lru_cache(maxsize=2)
def _voice_bands(spec: FeatureSpec) -> NDArray[np.bool_]:
    """Mel bands whose centre lies within a voice's range, (n_mels,)."""
    centre_hz = mel_filters(spec).argmax(axis=1) * spec.sample_rate_hz / spec.n_fft
    bands: NDArray[np.bool_] = (centre_hz >= _VOICE_HZ[0]) & (centre_hz <= _VOICE_HZ[1])
    return bands

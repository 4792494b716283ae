"""Noise clips of a folder in, those that are stationary and those that are not out."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import soundfile

from edge_asd.capture.clips import read_clip
from edge_asd.types import FeatureSpec, FloatArray
from train.data.table import TABLE_NAME
from train.retain.noise import list_noise
from train.synth.flow import rumble
from train.synth.levels import at_rms

NoiseKind: TypeAlias = Literal["stationary", "non-stationary"]
NOISE_KINDS: tuple[NoiseKind, ...] = ("stationary", "non-stationary")

STATIONARY_DB, NON_STATIONARY_DB = 3.0, 6.0
"""Standard deviation of the level over frames of 125 ms: at most, and at least; what lies between is left out."""
MAX_CREST_DB = 30.0
"""Peak over RMS above which a clip is left out: its mixtures would leave full scale."""

_FRAME_SAMPLES = 2_000
_FLOOR_DB = -60.0  # below the loudest frame; digital silence has no level
_GENERATED_CLIPS = 48
_GENERATED_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseClip:
    """One noise recording. tag: what it is of. group: recordings that must stay on one side."""

    path: Path
    tag: str
    group: str
    kind: NoiseKind


def list_kinds(folder: Path, *, without: Sequence[str] = ()) -> tuple[NoiseClip, ...]:
    """List the clips of a folder that are clearly stationary or clearly not.

    Args:
        folder: as train.retain.noise.list_noise understands it.
        without: tags that serve for something else.

    Raises:
        UsageError: its table is not as expected.
        ClipError: the folder is not there, or a clip cannot be used.
    """
    clips = []
    for clip in list_noise(folder):
        kind = None if clip.tag in without else kind_of(read_clip(folder / clip.file))
        if kind is not None:
            clips.append(NoiseClip(path=folder / clip.file, tag=clip.tag, group=clip.group, kind=kind))
    return tuple(clips)


def kind_of(wave: FloatArray) -> NoiseKind | None:
    """Which kind of noise a clip (n,) is; None where it is neither, silent, or too peaked to be mixed."""
    wave = wave - wave.mean()
    level = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
    if level < 1e-5 or 20.0 * np.log10(np.abs(wave).max() / level) > MAX_CREST_DB:
        return None
    spread_db = level_spread_db(wave)
    if spread_db <= STATIONARY_DB:
        return "stationary"
    return "non-stationary" if spread_db >= NON_STATIONARY_DB else None


def level_spread_db(wave: FloatArray) -> float:
    """Standard deviation over frames of 125 ms of the level of a clip (n,), in dB."""
    frames = wave[: len(wave) // _FRAME_SAMPLES * _FRAME_SAMPLES].reshape(-1, _FRAME_SAMPLES)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)  # (frames,)
    return float(np.std(10.0 * np.log10(np.maximum(power, power.max() * 10.0 ** (_FLOOR_DB / 10.0)))))


def generate_noise(folder: Path, seed: int) -> None:
    """Write a folder of generated noise with its table: rumble of any colour, steady or in bursts."""
    rng = np.random.default_rng([seed, 7])
    n_samples = _GENERATED_S * FeatureSpec().sample_rate_hz
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(_GENERATED_CLIPS):
        noise = rumble(rng, n_samples, slope=float(rng.uniform(0.2, 1.8)), lowest_hz=float(rng.uniform(40.0, 1_000.0)))
        tag = "burst" if number % 2 else "rumble"
        if tag == "burst":
            noise = noise * _bursts(rng, n_samples)
        name = f"{tag}_{number:03}.wav"
        soundfile.write(folder / name, at_rms(noise, 0.02), FeatureSpec().sample_rate_hz, subtype="PCM_16")
        rows.append([name, tag, name])
    with (folder / TABLE_NAME).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file", "tag", "group"], *rows])


def _bursts(rng: np.random.Generator, n_samples: int) -> FloatArray:
    """Gain (n_samples,) of some bursts that fade, 40 dB above what is between them."""
    gain = np.full(n_samples, 0.01)
    for start in rng.integers(0, n_samples, 12):
        fading = np.exp(-np.arange(n_samples - start) / rng.uniform(800.0, 6_000.0))
        gain[start:] = np.maximum(gain[start:], fading)
    return gain.astype(np.float32)

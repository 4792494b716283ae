"""Machine clips, noise clips and chance in, sets of mixtures out that are mixed when they are asked for."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.noise_robustness.mixing import mix, parts, repeated
from benchmarks.noise_robustness.noise import NoiseClip
from benchmarks.noise_robustness.sound import MachineClip
from edge_asd.capture.clips import read_clip
from edge_asd.types import FeatureSpec, FloatArray
from train.data import Waves

N_SAMPLES = FeatureSpec().window_samples

_CACHED_CLIPS = 512
"""Most clips of real sound that are kept decoded: 330 MB at 10 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """One mixture. noise_start: sample of the noise that it begins with; the noise repeats."""

    machine: MachineClip
    noise: NoiseClip
    noise_start: int
    snr_db: float

    def wave(self) -> FloatArray:
        """Mix, (160,000,) float32."""
        return mix(self.clean_wave(), self.noise_wave(), self.snr_db)

    def parts(self, snr_db: float) -> FloatArray:
        """The machine and the noise as they stand in their mixture at that ratio, (2, 160,000)."""
        return parts(self.clean_wave(), self.noise_wave(), snr_db)

    def clean_wave(self) -> FloatArray:
        """The machine alone as recorded, (160,000,); a clip that is too short repeats."""
        return repeated(_read(self.machine.path), N_SAMPLES)

    def noise_wave(self) -> FloatArray:
        """The noise alone as recorded, (160,000,)."""
        return repeated(_read(self.noise.path), N_SAMPLES, self.noise_start)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureSet:
    """Mixtures that are scored, or remembered, together."""

    mixtures: tuple[Mixture, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        """(N,) of the machines."""
        return tuple(mixture.machine.class_name for mixture in self.mixtures)

    @property
    def groups(self) -> tuple[str, ...]:
        """(N,) recordings that the machines' clips are of."""
        return tuple(mixture.machine.group for mixture in self.mixtures)

    @property
    def is_anomaly(self) -> NDArray[np.bool_]:
        """(N,) whether the machine is damaged."""
        return np.array([mixture.machine.is_anomaly for mixture in self.mixtures], dtype=bool)

    def waves(self) -> Waves:
        """Mix all: N clips of 10 s."""
        return Waves.from_arrays([mixture.wave() for mixture in self.mixtures])


def draw_mixtures(
    machines: Sequence[MachineClip],
    noise: Sequence[NoiseClip],
    rng: np.random.Generator,
    *,
    snr_db: tuple[float, float],
    each: int = 1,
) -> MixtureSet:
    """Mix every machine clip `each` times: noise drawn without replacement until all of it is, SNR evenly.

    Args:
        machines: in the order of the mixtures.
        noise: to draw from.
        rng: all chance.
        snr_db: lowest and highest.
        each: mixtures of a machine clip.
    """
    n_mixtures = len(machines) * each
    turns = [rng.permutation(len(noise)) for _ in range(-(-n_mixtures // len(noise)))]
    chosen = np.concatenate(turns)[:n_mixtures]
    starts = rng.integers(0, N_SAMPLES, n_mixtures)
    snrs_db = rng.uniform(*snr_db, n_mixtures)
    return MixtureSet(
        mixtures=tuple(
            Mixture(
                machine=machines[place // each],
                noise=noise[chosen[place]],
                noise_start=int(starts[place]),
                snr_db=float(snrs_db[place]),
            )
            for place in range(n_mixtures)
        )
    )


@functools.lru_cache(maxsize=_CACHED_CLIPS)
def _read(path: Path) -> FloatArray:
    return read_clip(path)

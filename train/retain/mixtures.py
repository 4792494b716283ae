"""Machine clips and pieces of noise in, batches of mixtures, their parts and tags out, the same for the same seed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from train.data import Waves
from train.retain.mixing import noise_at_snr


class MixtureBatch(NamedTuple):
    """Windows (B, window_samples) float32, mixture = clean + noise; places of their tags (B,) int64."""

    mixture: Tensor
    clean: Tensor
    noise: Tensor
    machine: Tensor
    tag: Tensor


class Mixtures(Dataset[MixtureBatch]):
    """Batches of mixtures by the numbers of their draws.

    Machines: one class is drawn as often as any other (class-weighted), and each clip of it once before any is drawn
    again. Noise: every clip is drawn once before any is drawn again, each time with any of its pieces, so that a long
    clip comes no oftener than a short one. A draw is the same whoever makes it, and whatever was drawn before.
    """

    def __init__(
        self,
        machines: Waves,
        labels: Sequence[int],
        pieces: Waves,
        clip_of_piece: NDArray[np.integer],
        tags: Sequence[int],
        *,
        snr_db: tuple[float, float],
        gain_db: float,
        n_samples: int,
        seed: int,
    ) -> None:
        """Take machine clips with their labels, and pieces of noise (in order of their clips) with each clip's tag."""
        self._machines = machines
        self._labels = np.array(labels, dtype=np.int64)
        self._pieces = pieces
        self._tags = np.array(tags, dtype=np.int64)
        self._n_pieces = np.bincount(clip_of_piece, minlength=len(tags))  # of each clip
        self._first_piece = np.cumsum(self._n_pieces) - self._n_pieces
        if len(machines) != len(self._labels):
            raise ValueError(f"{len(labels)} labels; expected {len(machines)}")
        if self._n_pieces.shape != self._tags.shape or not self._n_pieces.all():
            raise ValueError(f"{len(tags)} tags for pieces of {len(self._n_pieces)} clips; expected pieces of each")
        self._members = [np.flatnonzero(self._labels == label) for label in np.unique(self._labels)]
        self._snr_db = snr_db
        self._gain = np.float32(10.0 ** (gain_db / 20.0))
        self._n_samples = n_samples
        self._seed = seed

    def __getitems__(self, draws: Sequence[int]) -> MixtureBatch:
        """Draw a batch."""
        numbers = np.asarray(draws, dtype=np.int64)
        clips = np.array([self._clip(int(number)) for number in numbers])
        noises = np.array([self._place(4, int(number), len(self._tags)) for number in numbers])
        chance = np.array([np.random.default_rng([self._seed, 5, number]).random(4) for number in numbers]).T
        pieces = self._first_piece[noises] + (chance[3] * self._n_pieces[noises]).astype(np.int64)
        spare = np.maximum(0, self._machines.lengths[clips] - self._n_samples)
        begins = (chance[0] * (spare + 1)).astype(np.int64)
        clean = self._gain * self._machines.cut(clips, begins, self._n_samples)
        lengths = self._pieces.lengths[pieces]
        turned = np.where(lengths < self._n_samples, (chance[1] * lengths).astype(np.int64), 0)
        low, high = self._snr_db
        noise = noise_at_snr(clean, self._pieces.cut(pieces, turned, self._n_samples), low + (high - low) * chance[2])
        return MixtureBatch(
            mixture=torch.from_numpy(clean + noise),
            clean=torch.from_numpy(clean),
            noise=torch.from_numpy(noise),
            machine=torch.from_numpy(self._labels[clips]),
            tag=torch.from_numpy(self._tags[noises]),
        )

    def _clip(self, draw: int) -> int:
        turn, place = divmod(draw, len(self._members))
        members = self._members[int(_order((self._seed, 0, turn), len(self._members))[place])]
        return int(members[self._place(1, turn, len(members), int(members[0]))])

    def _place(self, stream: int, draw: int, n_places: int, *more: int) -> int:
        turn, place = divmod(draw, n_places)
        return int(_order((self._seed, stream, turn, *more), n_places)[place])


@functools.lru_cache(maxsize=256)
def _order(seed: tuple[int, ...], n_places: int) -> NDArray[np.int64]:
    order: NDArray[np.int64] = np.random.default_rng(seed).permutation(n_places)
    return order

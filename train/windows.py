"""Recordings of a split in, batches of training windows and fixed validation windows out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, TensorDataset

from edge_asd.types import FloatArray
from train.augment import alter_window, draw_window
from train.settings import AugmentSettings

ALTERED_SUFFIX = "~altered"
"""Ends the name of the class that altered windows of a class are learnt as."""

_ALTERED_PER_VALIDATION_CLIP = 4


def network_classes(classes: Sequence[str], augment: AugmentSettings) -> tuple[str, ...]:
    """Name the network's outputs: the classes, then their altered twins where altered windows are drawn."""
    twins = tuple(name + ALTERED_SUFFIX for name in classes) if augment.altered_share > 0.0 else ()
    return (*classes, *twins)


class TrainingWindows(Dataset[tuple[Tensor, int]]):
    """Windows by the number of their draw: (window_samples,) float32 and the index of their class.

    The same seed and draw give the same window, whichever process draws it.
    """

    def __init__(
        self,
        waves: Sequence[FloatArray],
        labels: Sequence[int],
        augment: AugmentSettings,
        *,
        n_classes: int,
        n_samples: int,
        seed: int,
    ) -> None:
        """Take recordings (n,) and their classes; n_classes counts those without altered twins."""
        self._waves = waves
        self._labels = labels
        self._augment = augment
        self._n_classes = n_classes
        self._n_samples = n_samples
        self._seed = seed
        self._by_label: dict[int, list[FloatArray]] = defaultdict(list)
        for wave, label in zip(waves, labels, strict=True):
            self._by_label[label].append(wave)

    def __getitem__(self, draw: int) -> tuple[Tensor, int]:
        """Draw a window; every run of len(waves) draws goes once through all recordings."""
        turn, place = divmod(draw, len(self._waves))
        index = int(np.random.default_rng([self._seed, 0, turn]).permutation(len(self._waves))[place])
        rng = np.random.default_rng([self._seed, 1, draw])
        label = self._labels[index]
        wave = draw_window(self._waves[index], self._by_label[label], self._augment, rng, self._n_samples)
        if rng.random() < self._augment.altered_share:
            wave, label = alter_window(wave, rng), label + self._n_classes
        return torch.from_numpy(wave), label


class EpochDraws(Sampler[int]):
    """Numbers of the draws of one epoch after the other, never the same twice."""

    def __init__(self, n_draws: int) -> None:
        self._n_draws = n_draws
        self._next = 0

    def __len__(self) -> int:
        return self._n_draws

    def __iter__(self) -> Iterator[int]:
        start = self._next
        self._next += self._n_draws
        return iter(range(start, start + self._n_draws))


def validation_windows(
    waves: Sequence[FloatArray], labels: Sequence[int], augment: AugmentSettings, *, n_classes: int, n_samples: int
) -> TensorDataset:
    """Cut the windows that every epoch validates on: waves (N, window_samples) float32 and labels (N,) int64.

    Of each recording the first whole window; where altered windows are learnt, also altered ones, always the same.
    """
    rng = np.random.default_rng(0)
    cut: list[FloatArray] = []
    cut_labels: list[int] = []
    for wave, label in zip(waves, labels, strict=True):
        window = np.resize(wave, n_samples)  # a short recording repeats
        cut.append(window)
        cut_labels.append(label)
        if augment.altered_share > 0.0:
            cut.extend(alter_window(window, rng) for _ in range(_ALTERED_PER_VALIDATION_CLIP))
            cut_labels.extend([label + n_classes] * _ALTERED_PER_VALIDATION_CLIP)
    return TensorDataset(torch.from_numpy(np.stack(cut)), torch.tensor(cut_labels))

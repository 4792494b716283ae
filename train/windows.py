"""Recordings of a split in, batches of training windows and fixed validation windows out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from edge_asd.types import FloatArray
from train.augment import alter_window, draw_window
from train.data import Waves
from train.settings import AugmentSettings

ALTERED_SUFFIX = "~altered"
"""Ends the name of the class that altered windows of a class are learnt as."""

_ALTERED_PER_VALIDATION_CLIP = 4

Batch: TypeAlias = tuple[Tensor, Tensor]
"""Waves (B, window_samples) float32, or int16 as they are stored, and labels (B,) int64."""

_T = TypeVar("_T")


def network_classes(classes: Sequence[str], augment: AugmentSettings) -> tuple[str, ...]:
    """Name the network's outputs: the classes, then their altered twins where altered windows are drawn."""
    twins = tuple(name + ALTERED_SUFFIX for name in classes) if augment.altered_share > 0.0 else ()
    return (*classes, *twins)


def whole_batch(batch: _T) -> _T:
    """Collate what is a batch already."""
    return batch


class TrainingWindows(Dataset[Batch]):
    """Batches of windows by the numbers of their draws.

    The same seed and draw give the same window, whichever process draws it. Unless windows are altered, a batch is cut
    in one go, with no work a clip.
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
        self._waves = waves if isinstance(waves, Waves) else Waves.from_arrays(waves)
        self._labels = np.array(labels, dtype=np.int64)
        if len(self._waves) != len(self._labels):
            raise ValueError(f"{len(self._waves)} recordings and {len(self._labels)} labels; expected one each")
        self._augment = augment
        self._as_recorded = augment == AugmentSettings()
        self._n_classes = n_classes
        self._n_samples = n_samples
        self._seed = seed
        self._by_label = {
            int(label): self._waves.subset(np.flatnonzero(self._labels == label)) for label in np.unique(self._labels)
        }
        self._turn = -1
        self._order: NDArray[np.int64] = np.empty(0, np.int64)
        self._where: NDArray[np.float64] = np.empty(0)

    def __getitems__(self, draws: Sequence[int]) -> Batch:
        """Draw a batch; every run of len(waves) draws goes once through all recordings."""
        turns, places = np.divmod(np.asarray(draws, dtype=np.int64), len(self._waves))
        clips, where = np.empty_like(places), np.empty(len(places))
        for turn in np.unique(turns):
            self._begin_turn(int(turn))
            here = turns == turn
            clips[here], where[here] = self._order[places[here]], self._where[places[here]]
        if self._as_recorded:
            spare = np.maximum(0, self._waves.lengths[clips] - self._n_samples)
            begins = (where * (spare + 1)).astype(np.int64)
            waves = self._waves.cut_as_stored(clips, begins, self._n_samples)
            return torch.from_numpy(waves), torch.from_numpy(self._labels[clips])
        drawn = [self._draw(int(draw), int(clip)) for draw, clip in zip(draws, clips, strict=True)]
        return torch.from_numpy(np.stack([wave for wave, _ in drawn])), torch.tensor([label for _, label in drawn])

    def _begin_turn(self, turn: int) -> None:
        if turn != self._turn:
            n_clips = len(self._waves)
            self._turn = turn
            self._order = np.random.default_rng([self._seed, 0, turn]).permutation(n_clips)
            self._where = np.random.default_rng([self._seed, 2, turn]).random(n_clips)

    def _draw(self, draw: int, clip: int) -> tuple[FloatArray, int]:
        rng = np.random.default_rng([self._seed, 1, draw])
        label = int(self._labels[clip])
        wave = draw_window(self._waves[clip], self._by_label[label], self._augment, rng, self._n_samples)
        if rng.random() < self._augment.altered_share:
            wave, label = alter_window(wave, rng), label + self._n_classes
        return wave, label


class EpochDraws(Sampler[int]):
    """Numbers of the draws of an epoch, never the same in two epochs; Lightning sets the epoch.

    batch_size and rows: where several processes share a batch, of each batch the rows of this one.
    """

    def __init__(self, n_draws: int, *, batch_size: int = 1, rows: slice = slice(None)) -> None:
        self._n_draws = n_draws
        self._batch_size = batch_size
        self._rows = range(batch_size)[rows]
        self._epoch = 0
        self._n_skipped = 0

    def __len__(self) -> int:
        return self._n_draws // self._batch_size * len(self._rows)

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch, counted from 0."""
        self._epoch = epoch

    def skip(self, n_batches: int) -> None:
        """Leave out the first batches of the next epoch: a run that was cut off has had them."""
        self._n_skipped = n_batches

    def __iter__(self) -> Iterator[int]:
        first, self._n_skipped = self._n_skipped, 0
        for batch in range(first, self._n_draws // self._batch_size):
            start = self._epoch * self._n_draws + batch * self._batch_size
            yield from (start + row for row in self._rows)


class FirstWindows(Dataset[Batch]):
    """The first whole window of each recording, the same every time; a short recording repeats.

    With altered_each, so many altered ones follow it, of classes n_classes further on.
    """

    def __init__(
        self, waves: Sequence[FloatArray], labels: Sequence[int], *, n_samples: int, n_classes: int, altered_each: int
    ) -> None:
        self._waves = waves if isinstance(waves, Waves) else Waves.from_arrays(waves)
        self._labels = np.array(labels, dtype=np.int64)
        self._n_samples = n_samples
        self._n_classes = n_classes
        self._per_clip = 1 + altered_each

    def __len__(self) -> int:
        return len(self._waves) * self._per_clip

    def __getitems__(self, numbers: Sequence[int]) -> Batch:
        """Cut a batch."""
        clips, nth = np.divmod(np.asarray(numbers, dtype=np.int64), self._per_clip)
        waves = self._waves.cut(clips, np.zeros_like(clips), self._n_samples)
        for row in np.flatnonzero(nth):
            waves[row] = alter_window(waves[row], np.random.default_rng([clips[row], nth[row]]))
        return torch.from_numpy(waves), torch.from_numpy(self._labels[clips] + self._n_classes * (nth > 0))


def validation_windows(
    waves: Sequence[FloatArray], labels: Sequence[int], augment: AugmentSettings, *, n_classes: int, n_samples: int
) -> FirstWindows:
    """Make the windows that every epoch validates on: where altered windows are learnt, also altered ones."""
    altered_each = _ALTERED_PER_VALIDATION_CLIP if augment.altered_share > 0.0 else 0
    return FirstWindows(waves, labels, n_samples=n_samples, n_classes=n_classes, altered_each=altered_each)

"""WAV clips and their classes in, steps of training as public code of the recipe takes them out.

float32, eager; a worker loads each clip and makes its log-mel; mixup, losses, AdamW and the average of every entry of
the state, entry by entry, follow on the batch.

Source: TFSTgram OS-SCL and its public code.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.optim import AdamW
from torch.utils.data import DataLoader, Dataset

from train.features import LogMel
from train.losses import noisy_arcmix, noisy_supcon
from train.network import Network, NetworkSpec

_N_SAMPLES = 160_000
_MOST_WORKERS = 8
_EMA_DECAY = 0.9999


Clip: TypeAlias = tuple[Tensor, Tensor, int]


class ClipsOneByOne(Dataset[Clip]):
    """A clip's first 10 s (160000,), their log-mel (128, 313) and their class."""

    def __init__(self, files: Sequence[Path], labels: Sequence[int], n_draws: int) -> None:
        self._files = files
        self._labels = labels
        self._n_draws = n_draws
        self._log_mel = LogMel()

    def __len__(self) -> int:
        return self._n_draws

    def __getitem__(self, draw: int) -> Clip:
        clip = draw % len(self._files)
        wave, _ = soundfile.read(self._files[clip], dtype="float32")
        wave = torch.from_numpy(wave[:_N_SAMPLES])
        return wave, self._log_mel(wave[None])[0], self._labels[clip]


class PlainLoop:
    """A network and all that trains it."""

    def __init__(
        self, files: Sequence[Path], labels: Sequence[int], *, n_classes: int, batch_size: int, device: str
    ) -> None:
        self._files = files
        self._labels = labels
        self._batch_size = batch_size
        self._device = device
        torch.manual_seed(0)
        self._rng = np.random.default_rng(0)
        self._network = Network(NetworkSpec(n_classes=n_classes)).to(device).train()
        self._average = {name: entry.clone() for name, entry in self._network.state_dict().items()}
        self._optimizer = AdamW(self._network.parameters(), 1e-4)

    def batches(self, n_steps: int) -> DataLoader[Clip]:
        """So many batches, loaded by workers."""
        clips = ClipsOneByOne(self._files, self._labels, n_steps * self._batch_size)
        workers = max(1, min(_MOST_WORKERS, len(os.sched_getaffinity(0)) - 1))
        return DataLoader(clips, batch_size=self._batch_size, num_workers=workers, pin_memory=self._device == "cuda")

    def step(self, batch: Sequence[Tensor]) -> float:
        """Train on waves (B, 160000), log-mels (B, 128, 313) and classes (B,); returns the loss."""
        wave, log_mel, label_a = (part.to(self._device) for part in batch)
        lam = float(self._rng.beta(0.5, 0.5))
        permutation = torch.randperm(len(wave), device=self._device)
        wave = lam * wave + (1.0 - lam) * wave[permutation]
        log_mel = lam * log_mel + (1.0 - lam) * log_mel[permutation]
        embedding, cosine = self._network(wave, log_mel)
        loss = noisy_arcmix(cosine, label_a, label_a[permutation], lam, margin=0.4, scale=30.0)
        loss = loss + noisy_supcon(embedding, label_a)
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        self._optimizer.step()
        with torch.no_grad():
            for name, entry in self._network.state_dict().items():
                if entry.is_floating_point():
                    self._average[name] = _EMA_DECAY * self._average[name] + (1.0 - _EMA_DECAY) * entry
        return float(loss.item())

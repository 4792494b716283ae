"""A trained network and its training windows in, the same network with batch norm as these have it out."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, Dataset

from train.features import in_full_scale
from train.front_end import FrontEnd
from train.network import Network
from train.windows import Batch, whole_batch

_N_WINDOWS = 1_024
_BATCH = 64


def measure_batch_norm(network: Network, windows: Dataset[Batch], *, n_windows: int, device: str) -> None:
    """Replace the statistics of batch norm by those over the first windows of the training, as they are, unmixed.

    In training they are taken over mixed windows, with weights that change from step to step and are averaged later.

    n_windows: that the training drew; of more than 1,024 the rest is left out.
    """
    was_training = network.training
    loader = DataLoader(windows, batch_sampler=_batches(min(n_windows, _N_WINDOWS)), collate_fn=whole_batch)
    update_bn(loader, _FromWave(network).to(device), torch.device(device))
    network.cpu().train(was_training)


def _batches(n_windows: int) -> list[list[int]]:
    """Numbers of windows by batch; one that is left over goes with the last batch: alone it has no variance."""
    numbers = list(range(n_windows))
    starts = [start for start in range(0, n_windows, _BATCH) if start == 0 or start + 1 < n_windows]
    return [numbers[start:end] for start, end in zip(starts, [*starts[1:], n_windows], strict=True)]


class _FromWave(nn.Module):
    """The network with its front end, so that waves alone go in, float32 in -1..1 or int16 as they are stored."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.front_end = FrontEnd(network.spec.branches)

    def forward(self, wave: Tensor) -> Tensor:
        return cast("Tensor", self.network(*self.front_end(in_full_scale(wave)))[0])

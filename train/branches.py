"""Waves or log-mels in, images of one branch (B, n_mels, n_frames) for the backbone out."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documents use
from torch import Tensor, nn

from edge_asd.types import FeatureSpec


class TgramNet(nn.Module):
    """Temporal features from the raw wave: (B, samples) -> (B, n_mels, n_frames).

    Source: STgram-MFN (Liu et al., 2022), as TFSTgram OS-SCL uses it.
    """

    def __init__(self, feature_spec: FeatureSpec) -> None:
        super().__init__()
        channels, hop = feature_spec.n_mels, feature_spec.hop_samples
        self.extractor = nn.Conv1d(1, channels, 2 * hop, stride=hop, padding=hop, bias=False)
        self.encoder = nn.Sequential(
            *(
                nn.Sequential(
                    nn.LayerNorm(feature_spec.n_frames),
                    nn.LeakyReLU(0.2),
                    nn.Conv1d(channels, channels, 3, padding=1, bias=False),
                )
                for _ in range(3)
            )
        )

    def forward(self, wave: Tensor) -> Tensor:
        """Run the branch on waves in -1..1."""
        frames = self.extractor(wave.unsqueeze(1))  # (B, n_mels, n_frames)
        return cast("Tensor", self.encoder(frames))


class MaxPool(nn.Module):
    """Maxima of windows side by side, a rest left out: (B, C, n) -> (B, C, n // length).

    In training they are maxima over an axis: the gradient of torch's max-pool, compiled for a CPU, takes up to four
    times as long. Exports hold the max-pool, which every engine knows.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def forward(self, x: Tensor) -> Tensor:
        """Pool the last axis."""
        if not self.training:
            return F.max_pool1d(x, self.length)
        n_windows = x.shape[-1] // self.length
        windows = x[..., : n_windows * self.length].reshape(*x.shape[:-1], n_windows, self.length)
        return windows.max(dim=-1).values


class FixedAdaptiveMaxPool(nn.Module):
    """Adaptive max-pool of a fixed input length: (B, C, n_in) -> (B, C, n_out).

    Output i is the maximum over floor(i n_in / n_out) .. ceil((i + 1) n_in / n_out). With fixed lengths this is a
    gather of equally long windows (short ones repeat their last sample) and a plain max-pool, which every engine takes;
    ONNX has no adaptive pool.
    """

    index: Tensor

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        starts = torch.arange(n_out) * n_in // n_out
        ends = -(-(torch.arange(1, n_out + 1) * n_in) // n_out)
        length = int((ends - starts).max())
        windows = starts[:, None] + torch.arange(length)  # (n_out, length)
        self.needs_gather = n_in != n_out * length
        self.pool = MaxPool(length)
        self.register_buffer("index", windows.minimum(ends[:, None] - 1).flatten(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Pool the last axis."""
        if self.needs_gather:
            x = x.index_select(-1, self.index)  # (B, C, n_out * length)
        return cast("Tensor", self.pool(x))


class WaveBlock(nn.Module):
    """Two convolutions, the second dilated, each with batch norm and ReLU, then a max-pool on the last axis."""

    def __init__(self, in_channels: int, channels: int, pool: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(in_channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm1d(channels)
        self.conv2 = nn.Conv1d(channels, channels, 3, padding=2, dilation=2, bias=False)
        self.norm2 = nn.BatchNorm1d(channels)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(self.conv2(x)))
        return cast("Tensor", self.pool(x))


class TFgramNet(nn.Module):
    """Time-frequency features from the raw wave: (B, samples) -> (B, n_mels, n_frames).

    Source: TFSTgram OS-SCL. Its table prints 64 channels for block 2; only 128 gives the published parameter count.
    """

    def __init__(self, feature_spec: FeatureSpec) -> None:
        super().__init__()
        channels, n_frames = feature_spec.n_mels, feature_spec.n_frames
        n_block1 = (feature_spec.window_samples - 1) // 5 + 1
        n_block2 = n_block1 // 4
        self.stem = nn.Conv1d(1, 64, 11, stride=5, padding=5, bias=False)
        self.norm = nn.BatchNorm1d(64)
        self.block1 = WaveBlock(64, 64, MaxPool(4))
        self.block2 = WaveBlock(64, channels, FixedAdaptiveMaxPool(n_block2, 2 * n_frames))
        self.block3 = WaveBlock(channels, channels, FixedAdaptiveMaxPool(2 * n_frames, n_frames))

    def forward(self, wave: Tensor) -> Tensor:
        """Run the branch on waves in -1..1."""
        x = F.relu(self.norm(self.stem(wave.unsqueeze(1))))  # (B, 64, 32000)
        x = self.block1(x)  # (B, 64, 8000)
        x = self.block2(x)  # (B, 128, 626)
        return cast("Tensor", self.block3(x))  # (B, 128, 313)


class TAgram(nn.Module):
    """The log-mel with each frame weighted by its own level: (B, n_mels, n_frames) in dB -> the same shape.

    The weight is the sigmoid of the frame's maximum plus its mean over frequency. It has no parameters.

    Source: Noisy-ArcMix (Choi and Choi, 2024), TASTgram.
    """

    def forward(self, log_mel: Tensor) -> Tensor:
        """Run the branch on log-mels in dB."""
        level = log_mel.amax(dim=1, keepdim=True) + log_mel.mean(dim=1, keepdim=True)  # (B, 1, n_frames)
        return log_mel * torch.sigmoid(level)

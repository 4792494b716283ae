"""Log-mels and the classes to score them as in, the anomaly score of each window out, by the DCASE baselines."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documents use
from torch import Tensor, nn

from edge_asd.types import FeatureSpec

_N_STACKED = 5
_MIDDLE = _N_STACKED // 2
_CHUNK_FRAMES = 64
_CHUNK_HOP_FRAMES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSpec:
    """An autoencoder of stacked frames for each machine type.

    predicts: all five frames from themselves (autoencoder), or the middle one from the other four (IDNN).
    type_of_class: (classes,) the number of each class's machine type.
    """

    predicts: Literal["all", "middle"]
    type_of_class: tuple[int, ...]

    @property
    def n_classes(self) -> int:
        """Machine IDs that are scored."""
        return len(self.type_of_class)


class FrameNetwork(nn.Module):
    """Mean squared error of reconstructed log-mel frames, in dB squared.

    Source: DCASE 2020 Task 2 baseline autoencoder, 640-128x4-8-128x4-640, on log-mels of n_fft 1024 there; IDNN
    (Suefusa et al., 2020) with the same hidden layers.
    """

    type_of_class: Tensor

    def __init__(self, spec: FrameSpec, feature_spec: FeatureSpec | None = None) -> None:
        super().__init__()
        n_mels = (feature_spec or FeatureSpec()).n_mels
        n_in, n_out = (_N_STACKED, _N_STACKED) if spec.predicts == "all" else (_N_STACKED - 1, 1)
        self.spec = spec
        self.register_buffer("type_of_class", torch.tensor(spec.type_of_class), persistent=False)
        widths = (n_in * n_mels, *[128] * 4, 8, *[128] * 4)
        self.of_type = nn.ModuleList(
            nn.Sequential(
                *(
                    nn.Sequential(nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU())
                    for before, after in itertools.pairwise(widths)
                ),
                nn.Linear(128, n_out * n_mels),
            )
            for _ in range(max(spec.type_of_class) + 1)
        )

    def forward(self, log_mel: Tensor, label: Tensor) -> Tensor:
        """Score windows (B, n_mels, n_frames) in dB as classes (B,): (B,)."""
        frames = log_mel.unfold(2, _N_STACKED, 1).permute(0, 2, 3, 1)  # (B, n_frames - 4, 5, n_mels)
        if self.spec.predicts == "all":
            given, wanted = frames, frames
        else:
            given = torch.cat(
                (frames[:, :, :_MIDDLE], frames[:, :, _MIDDLE + 1 :]), dim=2
            )  # (B, n_frames - 4, 4, n_mels)
            wanted = frames[:, :, _MIDDLE : _MIDDLE + 1]
        given, wanted = given.flatten(2), wanted.flatten(2)  # (B, n_frames - 4, in), (B, n_frames - 4, out)
        error = log_mel.new_zeros(len(log_mel))
        types = self.type_of_class[label]  # (B,)
        for number in sorted(set(types.tolist())):
            rows = torch.nonzero(types == number)[:, 0]
            found = self.of_type[number](given[rows].flatten(0, 1)).view_as(wanted[rows]).float()
            error = error.index_copy(0, rows, (found - wanted[rows]).square().mean(dim=(1, 2)))
        return error


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkSpec:
    """A MobileNetV2 that tells machine IDs apart."""

    n_classes: int


class InvertedResidual(nn.Module):
    """Widen, depthwise 3x3, narrow; added to its input where the shapes agree."""

    def __init__(self, in_channels: int, channels: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.layers = nn.Sequential(
            *([] if expansion == 1 else [_conv(in_channels, wide, 1)]),
            _conv(wide, wide, 3, stride=stride, groups=wide),
            nn.Conv2d(wide, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.has_shortcut = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        y = cast("Tensor", self.layers(x))
        return x + y if self.has_shortcut else y


def _conv(in_channels: int, channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU6(),
    )


class ChunkClassifier(nn.Module):
    """Mean of -log p of the machine's own ID over chunks of 64 frames, 8 frames apart.

    Source: DCASE 2021 Task 2 baseline; MobileNetV2 (Sandler et al., 2018) at half its width.
    """

    # expansion, channels at half width, blocks, stride of the first
    STAGES = ((1, 8, 1, 1), (6, 16, 2, 2), (6, 16, 3, 2), (6, 32, 4, 2), (6, 48, 3, 1), (6, 80, 3, 2), (6, 160, 1, 1))

    def __init__(self, spec: ChunkSpec) -> None:
        super().__init__()
        self.spec = spec
        layers: list[nn.Module] = [_conv(1, 16, 3, stride=2)]
        width = 16
        for expansion, channels, n_blocks, stride in self.STAGES:
            for block in range(n_blocks):
                first = stride if block == 0 else 1
                layers.append(InvertedResidual(width, channels, expansion=expansion, stride=first))
                width = channels
        self.features = nn.Sequential(*layers, _conv(width, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, spec.n_classes))

    def forward(self, log_mel: Tensor, label: Tensor) -> Tensor:
        """Score windows (B, n_mels, n_frames) in dB as classes (B,): (B,)."""
        chunks = log_mel.unfold(2, _CHUNK_FRAMES, _CHUNK_HOP_FRAMES).permute(0, 2, 1, 3)  # (B, chunks, n_mels, 64)
        n_chunks = chunks.shape[1]
        feature = self.features(chunks.flatten(0, 1)[:, None]).mean(dim=(2, 3))  # (B * chunks, 1280)
        logits = self.classifier(feature).float()
        error = F.cross_entropy(logits, label.repeat_interleave(n_chunks), reduction="none")  # (B * chunks,)
        return error.view(-1, n_chunks).mean(dim=1)

"""TFSTgram with its perturbation head: wave and log-mel in, unit embedding and cosine to every class weight out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documents use
from torch import Tensor, nn

from edge_asd.errors import EdgeAsdError
from edge_asd.types import FeatureSpec

Branch: TypeAlias = Literal["log_mel", "tgram", "tfgram"]
HeadActivation: TypeAlias = Literal["relu", "leaky_relu"]

BRANCHES: tuple[Branch, ...] = ("log_mel", "tgram", "tfgram")
HEAD_ACTIVATIONS: tuple[HeadActivation, ...] = ("relu", "leaky_relu")
EMBEDDING_SIZE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """All that the network's layers and its score depend on.

    branches: the input channels of the backbone, in this order; log_mel always, tgram and tfgram as wanted.
    head_reduction: width of the perturbation head's hidden layer (R).
    margin, scale: of the ArcFace logits, in radians and as a factor; used by the loss and by the score.
    """

    branches: tuple[Branch, ...] = BRANCHES
    head_reduction: int = 64
    head_activation: HeadActivation = "relu"
    n_classes: int = 41
    margin: float = 0.4
    scale: float = 30.0

    def __post_init__(self) -> None:
        in_order = tuple(branch for branch in BRANCHES if branch in self.branches)
        if self.branches != in_order or "log_mel" not in self.branches:
            raise EdgeAsdError(
                f"network branches are {'+'.join(self.branches) or 'none'}; expected log_mel, "
                f"then tgram and tfgram as wanted, in that order"
            )
        if self.head_activation not in HEAD_ACTIVATIONS:
            raise EdgeAsdError(f"head_activation is {self.head_activation!r}; expected one of {HEAD_ACTIVATIONS}")
        if self.n_classes < 2:
            raise EdgeAsdError(f"n_classes is {self.n_classes}; expected 2 or more: the loss tells classes apart")


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
        self.length = int((ends - starts).max())
        windows = starts[:, None] + torch.arange(self.length)  # (n_out, length)
        self.needs_gather = n_in != n_out * self.length
        self.register_buffer("index", windows.minimum(ends[:, None] - 1).flatten(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Pool the last axis."""
        if self.needs_gather:
            x = x.index_select(-1, self.index)  # (B, C, n_out * length)
        return F.max_pool1d(x, self.length)


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
        self.block1 = WaveBlock(64, 64, nn.MaxPool1d(4))
        self.block2 = WaveBlock(64, channels, FixedAdaptiveMaxPool(n_block2, 2 * n_frames))
        self.block3 = WaveBlock(channels, channels, FixedAdaptiveMaxPool(2 * n_frames, n_frames))

    def forward(self, wave: Tensor) -> Tensor:
        """Run the branch on waves in -1..1."""
        x = F.relu(self.norm(self.stem(wave.unsqueeze(1))))  # (B, 64, 32000)
        x = self.block1(x)  # (B, 64, 8000)
        x = self.block2(x)  # (B, 128, 626)
        return cast("Tensor", self.block3(x))  # (B, 128, 313)


class ConvNorm(nn.Module):
    """Convolution and batch norm, followed by PReLU unless linear."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int = 0,
        depthwise: bool = False,
        linear: bool = False,
    ) -> None:
        super().__init__()
        groups = in_channels if depthwise else 1
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.activation: nn.Module = nn.Identity() if linear else nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer."""
        return cast("Tensor", self.activation(self.norm(self.conv(x))))


class Bottleneck(nn.Module):
    """Inverted residual: widen, depthwise 3x3, narrow; added to its input where the shapes agree."""

    def __init__(self, in_channels: int, channels: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.widen = ConvNorm(in_channels, wide, 1)
        self.depthwise = ConvNorm(wide, wide, 3, stride=stride, padding=1, depthwise=True)
        self.narrow = ConvNorm(wide, channels, 1, linear=True)
        self.has_shortcut = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        y: Tensor = self.narrow(self.depthwise(self.widen(x)))
        return x + y if self.has_shortcut else y


class MobileFaceNet(nn.Module):
    """The backbone: (B, branches, 128, 313) -> feature (B, 128).

    Source: MobileFaceNet (Chen et al., 2018) with the stages of TFSTgram OS-SCL.
    """

    STAGES = ((2, 128, 2), (4, 128, 2), (4, 128, 2))  # expansion, channels, stride of the first of two bottlenecks

    def __init__(self, in_channels: int, n_classes: int) -> None:
        super().__init__()
        self.stem = ConvNorm(in_channels, 64, 3, stride=2, padding=1)
        self.stem_depthwise = ConvNorm(64, 64, 3, padding=1, depthwise=True)
        blocks: list[Bottleneck] = []
        width = 64
        for expansion, channels, stride in self.STAGES:
            blocks.append(Bottleneck(width, channels, expansion=expansion, stride=stride))
            blocks.append(Bottleneck(channels, channels, expansion=expansion, stride=1))
            width = channels
        self.blocks = nn.Sequential(*blocks)
        self.widen = ConvNorm(width, 512, 1)
        self.pool = ConvNorm(512, 512, (8, 20), depthwise=True, linear=True)
        self.narrow = ConvNorm(512, EMBEDDING_SIZE, 1, linear=True)
        # forward does not use it: published checkpoints hold it and the published parameter count includes it.
        self.unused_classifier = nn.Linear(EMBEDDING_SIZE, n_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Run the backbone."""
        x = self.stem_depthwise(self.stem(image))  # (B, 64, 64, 157)
        x = self.blocks(x)  # (B, 128, 8, 20)
        x = self.narrow(self.pool(self.widen(x)))  # (B, 128, 1, 1)
        return cast("Tensor", x.flatten(1))


class FeaturePerturbationHead(nn.Module):
    """Squeeze and restore the feature: (B, 128) -> (B, 128). It stays at inference.

    Source: TFSTgram OS-SCL, feature perturbation head with reduction R.
    """

    def __init__(self, reduction: int, activation: HeadActivation) -> None:
        super().__init__()
        self.squeeze = nn.Linear(EMBEDDING_SIZE, reduction)
        self.squeeze_norm = nn.BatchNorm1d(reduction)
        self.restore = nn.Linear(reduction, EMBEDDING_SIZE)
        self.restore_norm = nn.BatchNorm1d(EMBEDDING_SIZE)
        self.activation = nn.ReLU() if activation == "relu" else nn.LeakyReLU(0.01)

    def forward(self, feature: Tensor) -> Tensor:
        """Run the head."""
        x = self.squeeze_norm(self.activation(self.squeeze(feature)))  # (B, R)
        return cast("Tensor", self.restore_norm(self.activation(self.restore(x))))


class Network(nn.Module):
    """The whole network without log-mel and margin, so that its export is its forward."""

    def __init__(self, spec: NetworkSpec, feature_spec: FeatureSpec | None = None) -> None:
        super().__init__()
        feature_spec = feature_spec or FeatureSpec()
        self.spec = spec
        self.tgram = TgramNet(feature_spec) if "tgram" in spec.branches else None
        self.tfgram = TFgramNet(feature_spec) if "tfgram" in spec.branches else None
        self.backbone = MobileFaceNet(len(spec.branches), spec.n_classes)
        self.head = FeaturePerturbationHead(spec.head_reduction, spec.head_activation)
        self.class_weight = nn.Parameter(torch.empty(spec.n_classes, EMBEDDING_SIZE))
        nn.init.xavier_uniform_(self.class_weight)

    def branch_image(self, wave: Tensor, log_mel: Tensor) -> Tensor:
        """Stack the branches as channels: (B, samples), (B, 128, 313) -> (B, branches, 128, 313)."""
        channels = [log_mel]
        if self.tgram is not None:
            channels.append(self.tgram(wave))
        if self.tfgram is not None:
            channels.append(self.tfgram(wave))
        return torch.stack(channels, dim=1)

    def forward(self, wave: Tensor, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Embed windows.

        wave: (B, 160000) float32 in -1..1, unused where the branches are log_mel alone.
        log_mel: (B, 128, 313) float32 in dB.

        Returns:
            embedding (B, 128) of unit length, cosine (B, classes) to every class weight.
        """
        feature = self.backbone(self.branch_image(wave, log_mel))  # (B, 128)
        embedding = F.normalize(self.head(feature))  # (B, 128)
        return embedding, F.linear(embedding, F.normalize(self.class_weight))  # (B, classes)

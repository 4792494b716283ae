"""TFSTgram, its branches and head as wanted: wave and log-mel in, unit embedding and cosine to every class out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documents use
from torch import Tensor, nn

from edge_asd.errors import EdgeAsdError
from edge_asd.types import FeatureSpec
from train.branches import TAgram, TFgramNet, TgramNet

Branch: TypeAlias = Literal["log_mel", "tgram", "tfgram", "tagram"]
HeadActivation: TypeAlias = Literal["relu", "leaky_relu"]

BRANCHES: tuple[Branch, ...] = ("log_mel", "tgram", "tfgram", "tagram")
WAVE_BRANCHES: tuple[Branch, ...] = ("tgram", "tfgram")
"""Those of the wave; the others are of the log-mel."""
TFSTGRAM: tuple[Branch, ...] = ("log_mel", "tgram", "tfgram")
HEAD_ACTIVATIONS: tuple[HeadActivation, ...] = ("relu", "leaky_relu")
EMBEDDING_SIZE = 128
FEATURE_MAP_SIZE = 128 * 8
"""Channels times frequencies of the backbone's last map."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """All that the network's layers and its score depend on.

    branches: the input channels of the backbone, one or more, in the order of BRANCHES.
    head_reduction: width of the perturbation head's hidden layer (R); None: no head.
    margin, scale: of the ArcFace logits, in radians and as a factor; used by the loss and by the score.
    """

    branches: tuple[Branch, ...] = TFSTGRAM
    head_reduction: int | None = 64
    head_activation: HeadActivation = "relu"
    n_classes: int = 41
    margin: float = 0.4
    scale: float = 30.0

    def __post_init__(self) -> None:
        in_order = tuple(branch for branch in BRANCHES if branch in self.branches)
        if not self.branches or self.branches != in_order:
            raise EdgeAsdError(
                f"network branches are {'+'.join(self.branches) or 'none'}; expected one or more of "
                f"{', '.join(BRANCHES)}, in that order"
            )
        if self.head_reduction is not None and self.head_reduction < 1:
            raise EdgeAsdError(f"head_reduction is {self.head_reduction}; expected 1 or more, or None for no head")
        if self.head_activation not in HEAD_ACTIVATIONS:
            raise EdgeAsdError(f"head_activation is {self.head_activation!r}; expected one of {HEAD_ACTIVATIONS}")
        if self.n_classes < 2:
            raise EdgeAsdError(f"n_classes is {self.n_classes}; expected 2 or more: the loss tells classes apart")


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
        self._keeps_float32 = depthwise and stride > 1

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer."""
        return cast("Tensor", self.activation(self.norm(self._convolved(x))))

    def _convolved(self, x: Tensor) -> Tensor:
        if self._keeps_float32 and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # A CPU takes two to eight times as long for the gradient in bfloat16.
            with torch.autocast("cpu", enabled=False):
                return cast("Tensor", self.conv(x.float()))
        return cast("Tensor", self.conv(x))


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
        # Several processes would wait for its gradient.
        self.unused_classifier = nn.Linear(EMBEDDING_SIZE, n_classes).requires_grad_(False)

    def feature_map(self, image: Tensor) -> Tensor:
        """The last map before it narrows: (B, 128, 8, 20), 8 frequencies and 20 times."""
        x = self.stem_depthwise(self.stem(image))  # (B, 64, 64, 157)
        return cast("Tensor", self.blocks(x))

    def feature(self, feature_map: Tensor) -> Tensor:
        """What it narrows to: (B, 128)."""
        x = self.narrow(self.pool(self.widen(feature_map)))  # (B, 128, 1, 1)
        return cast("Tensor", x.flatten(1))

    def forward(self, image: Tensor) -> Tensor:
        """Run the backbone."""
        return self.feature(self.feature_map(image))


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
        self.tagram = TAgram() if "tagram" in spec.branches else None
        self.backbone = MobileFaceNet(len(spec.branches), spec.n_classes)
        self.head = (
            None if spec.head_reduction is None else FeaturePerturbationHead(spec.head_reduction, spec.head_activation)
        )
        self.class_weight = nn.Parameter(torch.empty(spec.n_classes, EMBEDDING_SIZE))
        nn.init.xavier_uniform_(self.class_weight)

    def branch_image(self, wave: Tensor, log_mel: Tensor) -> Tensor:
        """Stack the branches as channels: (B, samples), (B, 128, 313) -> (B, branches, 128, 313)."""
        channels = [log_mel] if "log_mel" in self.spec.branches else []
        if self.tgram is not None:
            channels.append(self.tgram(wave))
        if self.tfgram is not None:
            channels.append(self.tfgram(wave))
        if self.tagram is not None:
            channels.append(self.tagram(log_mel))
        return torch.stack(channels, dim=1)

    def forward(self, wave: Tensor, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Embed windows.

        wave: (B, 160000) float32 in -1..1, unused where no branch is of the wave: it may be empty then.
        log_mel: (B, 128, 313) float32 in dB, unused where all branches are of the wave: it may be empty then.

        Returns:
            embedding (B, 128) of unit length, cosine (B, classes) to every class weight.
        """
        return self._embedded(self.backbone(self.branch_image(wave, log_mel)))

    def with_feature_map(self, wave: Tensor, log_mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same, and the backbone's last map averaged over time with its frequencies kept, (B, 1024).

        Source: GenRep (Saengthong and Shinozaki, 2024), for the average.
        """
        feature_map = self.backbone.feature_map(self.branch_image(wave, log_mel))  # (B, 128, 8, 20)
        embedding, cosine = self._embedded(self.backbone.feature(feature_map))
        return embedding, cosine, feature_map.flatten(1, 2).mean(dim=2)

    def _embedded(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        embedding = F.normalize(feature if self.head is None else self.head(feature))  # (B, 128)
        return embedding, self.cosine(embedding)

    def cosine(self, embedding: Tensor) -> Tensor:
        """Compare embeddings (B, 128) of unit length with every class weight: (B, classes)."""
        return F.linear(embedding, F.normalize(self.class_weight))

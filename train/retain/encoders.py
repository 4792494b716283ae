"""A registered name and where its weights are in; an encoder with its layers and their sizes out."""

from __future__ import annotations

import abc
import contextlib
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from edge_asd.errors import EdgeAsdError, UsageError
from edge_asd.types import FeatureSpec
from train.network import EMBEDDING_SIZE, Network
from train.retain.settings import DEVICE_ENCODER

DEFAULT_START = "tfstgram-os-scl"
"""Preset of train.fit that makes the usual start."""
ENCODER_NAME = "encoder.pt"
"""File of the weights of an encoder from elsewhere, which no device runs."""
EMBEDDING = "embedding"
FEATURE_MAP = "feature_map"


class Encoder(nn.Module, abc.ABC):
    """Windows in, an embedding from one of its layers out.

    sizes: of every layer that can be asked for; `embedding` is among them.
    """

    sizes: Mapping[str, int]

    @abc.abstractmethod
    def forward(self, wave: Tensor, log_mel: Tensor, layer: str) -> Tensor:
        """Embed windows: (B, window_samples) in -1..1 and (B, n_mels, n_frames) in dB -> (B, sizes[layer])."""


class NetworkEncoder(Encoder):
    """The network that a device runs.

    Layers: `embedding` (128 of unit length), and `feature_map`, the backbone's last map before it narrows, averaged
    over time with its 8 frequencies kept (1024), as GenRep takes it.
    """

    _FREQUENCIES = 8
    sizes: Mapping[str, int] = {EMBEDDING: EMBEDDING_SIZE, FEATURE_MAP: 128 * _FREQUENCIES}
    network: Network

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, wave: Tensor, log_mel: Tensor, layer: str) -> Tensor:
        """Embed windows."""
        if layer == EMBEDDING:
            return cast("Tensor", self.network(wave, log_mel)[0])  # (B, 128)
        backbone = self.network.backbone
        image = self.network.branch_image(wave, log_mel)  # (B, branches, 128, 313)
        maps = backbone.blocks(backbone.stem_depthwise(backbone.stem(image)))  # (B, 128, 8, 20)
        return cast("Tensor", maps.mean(dim=3).flatten(1))  # (B, 1024)


class PluggedEncoder(Encoder):
    """Any module from elsewhere: (wave, log_mel) -> (B, embedding_size)."""

    def __init__(self, module: nn.Module, embedding_size: int) -> None:
        super().__init__()
        self.module = module
        self.sizes = {EMBEDDING: embedding_size}

    def forward(self, wave: Tensor, log_mel: Tensor, layer: str) -> Tensor:  # noqa: ARG002 - it has but one
        """Embed windows."""
        return cast("Tensor", self.module(wave, log_mel))


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """How an encoder from elsewhere is made.

    embedding_size: of what it gives a window. make: gives the module with its weights; it is called with what
    --start-from says, or None.
    """

    embedding_size: int
    make: Callable[[str | None], nn.Module]


_REGISTERED: dict[str, Registered] = {}


def register_encoder(name: str, *, embedding_size: int, make: Callable[[str | None], nn.Module]) -> None:
    """Let --encoder find a module by this name; a module given to --import calls it.

    The module is called with wave (B, window_samples) float32 in -1..1 and log_mel (B, n_mels, n_frames) float32 in dB,
    of which it may ignore one, and returns (B, embedding_size).

    Raises:
        ValueError: the name is taken by another one, or the size is below 1.
    """
    encoder = Registered(embedding_size=embedding_size, make=make)
    if embedding_size < 1:
        raise ValueError(f"encoder {name!r} has an embedding size of {embedding_size}; expected 1 or more")
    if name == DEVICE_ENCODER or _REGISTERED.get(name, encoder) != encoder:
        raise ValueError(f"encoder {name!r} is registered already; expected another name")
    _REGISTERED[name] = encoder


def open_plugged(name: str, start_from: str | None, spec: FeatureSpec) -> PluggedEncoder:
    """Make a registered encoder and hear two windows with it.

    Raises:
        UsageError: none is registered by that name, it cannot be made or fails, or what it gives is not finite or has
            not the shape that was registered.
    """
    if name not in _REGISTERED:
        known = ", ".join([DEVICE_ENCODER, *sorted(_REGISTERED)])
        raise UsageError(
            f"--encoder is {name!r}; expected one of {known}; a module that registers more is named by --import"
        )
    registered = _REGISTERED[name]
    with _telling(name, f"`make` called with {start_from!r}", "a torch module with its weights"):
        module = registered.make(start_from)
    if not isinstance(module, nn.Module):
        raise UsageError(f"encoder {name}: `make` gives a {type(module).__name__}; expected a torch.nn.Module")
    encoder = PluggedEncoder(module, registered.embedding_size).eval()
    size = (2, registered.embedding_size)
    wave, log_mel = torch.zeros(2, spec.window_samples), torch.zeros(2, spec.n_mels, spec.n_frames)
    heard = f"called with wave {tuple(wave.shape)} and log-mel {tuple(log_mel.shape)}"
    with torch.inference_mode(), _telling(name, heard, f"a tensor {size}"):
        given: object = encoder(wave, log_mel, EMBEDDING)
    if not isinstance(given, Tensor):
        raise UsageError(f"encoder {name} gives a {type(given).__name__} for two windows; expected a tensor {size}")
    if tuple(given.shape) != size:
        raise UsageError(
            f"encoder {name} gives {tuple(given.shape)} for two windows; expected {size}, as it was registered"
        )
    if not torch.isfinite(given).all():
        raise UsageError(
            f"encoder {name} gives NaN or infinity for silence; expected finite numbers; check its weights"
        )
    return encoder


@contextlib.contextmanager
def _telling(name: str, called: str, expected: str) -> Iterator[None]:
    """Tell what a user's encoder raised, which may be anything."""
    try:
        yield
    except Exception as error:
        raise UsageError(f"encoder {name}, {called}: {told(error)}; expected {expected}") from error


def told(error: Exception) -> str:
    """An exception of a user's code in words, with the line that raised it."""
    steps = traceback.extract_tb(error.__traceback__)
    where = f" ({steps[-1].filename} line {steps[-1].lineno})" if steps else ""
    return f"{type(error).__name__}: {error}{where}"


def save_plugged(path: Path, name: str, encoder: PluggedEncoder) -> None:
    """Write the weights of an encoder from elsewhere, for its own `make` to load: a state_dict of its module.

    Raises:
        EdgeAsdError: the file cannot be written.
    """
    state = {entry: value.detach().cpu() for entry, value in encoder.module.state_dict().items()}
    try:
        torch.save({"encoder": name, "embedding_size": encoder.sizes[EMBEDDING], "state": state}, path)
    except (OSError, RuntimeError) as error:  # torch reports an unwritable file as RuntimeError
        raise EdgeAsdError(f"{path}: the encoder cannot be written: {error}; give a folder that is writable") from error

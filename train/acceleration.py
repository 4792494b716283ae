"""Settings that leave speed to the machine in, those that pay on it, and a network made ready for them, out."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import torch

from edge_asd.heap import keep_all
from train.models import AnyNetwork
from train.network import Network
from train.settings import Device, Precision, TrainingSettings

_CPU_INFO = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")
"""Of x86 and Arm processors that multiply in bfloat16; others would emulate it slowly."""
_COMPILED_FROM_WINDOWS = 10_000
"""Compiling takes a minute or two of two cores, which so many windows make up for."""


class Accelerated(Protocol):
    """Settings, a dataclass, of which these may be left open."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @property
    def device(self) -> Device: ...  # noqa: D102 - as in the settings themselves

    @property
    def precision(self) -> Precision | None: ...  # noqa: D102

    @property
    def compile(self) -> bool | None: ...  # noqa: D102

    @property
    def trains_device_network(self) -> bool: ...  # noqa: D102


Settings = TypeVar("Settings", bound=Accelerated)


def settle(settings: Settings, *, n_windows: int, n_processes: int) -> Settings:
    """Fill in what the settings leave open: precision and compilation.

    Args:
        settings: of the run. The network that a device runs may be rounded, and is worth compiling.
        n_windows: that it will train on, over all epochs.
        n_processes: that train together; the losses of several are not compiled.
    """
    precision, compiled = settings.precision, settings.compile
    if precision is None:
        precision = (
            "bf16-mixed" if settings.trains_device_network and _multiplies_bfloat16(settings.device) else "32-true"
        )
    if compiled is None:
        pays = n_processes == 1 and n_windows >= _COMPILED_FROM_WINDOWS and _has_compiler()
        compiled = settings.trains_device_network and pays
    return dataclasses.replace(settings, precision=precision, compile=compiled)


def _has_compiler() -> bool:
    return any(shutil.which(compiler) for compiler in ("g++", "clang++"))


def make_ready(network: AnyNetwork, settings: TrainingSettings) -> None:
    """Lay the weights out as their precision wants them, compile where wanted, keep freed memory for the next step."""
    lay_out(network, settings.precision)
    keep_all()
    if settings.compile:
        network.compile()


def lay_out(network: AnyNetwork, precision: Precision | None) -> None:
    """Put the channels of a backbone last, which bfloat16 convolutions want."""
    if isinstance(network, Network) and precision == "bf16-mixed":
        network.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch forgets this one


def _multiplies_bfloat16(device: Device) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if not _CPU_INFO.exists():
        return False
    flags = re.findall(r"^(?:flags|Features)\s*:(.*)$", _CPU_INFO.read_text(encoding="utf-8"), re.MULTILINE)
    return bool(flags) and all(any(flag in line.split() for flag in _BFLOAT16_FLAGS) for line in flags)

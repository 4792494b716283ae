"""Settings that leave speed to the machine in, those that pay on it, and a network made ready for them, out."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import torch

from train.models import AnyNetwork
from train.network import Network
from train.settings import Device, TrainingSettings

_CPU_INFO = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")
"""Of x86 and Arm processors that multiply in bfloat16; others would emulate it slowly."""
_COMPILED_FROM_WINDOWS = 10_000
"""Compiling takes a minute or two of two cores, which so many windows make up for."""


def settle(settings: TrainingSettings, *, n_windows: int, n_processes: int) -> TrainingSettings:
    """Fill in what the settings leave open: precision and compilation.

    Args:
        settings: of the run.
        n_windows: that it will train on, over all epochs.
        n_processes: that train together; the losses of several are not compiled.
    """
    is_margin = settings.model == "margin"
    precision, compiled = settings.precision, settings.compile
    if precision is None:
        precision = "bf16-mixed" if is_margin and _multiplies_bfloat16(settings.device) else "32-true"
    if compiled is None:
        compiled = is_margin and n_processes == 1 and n_windows >= _COMPILED_FROM_WINDOWS and _can_compile()
    return dataclasses.replace(settings, precision=precision, compile=compiled)


def make_ready(network: AnyNetwork, settings: TrainingSettings) -> None:
    """Lay the network's weights out as its precision wants them, and have it compiled where wanted."""
    if isinstance(network, Network) and settings.precision == "bf16-mixed":
        network.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch forgets this one
    if settings.compile:
        network.compile()


def _multiplies_bfloat16(device: Device) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if not _CPU_INFO.exists():
        return False
    flags = re.findall(r"^(?:flags|Features)\s*:(.*)$", _CPU_INFO.read_text(encoding="utf-8"), re.MULTILINE)
    return bool(flags) and all(any(flag in line.split() for flag in _BFLOAT16_FLAGS) for line in flags)


def _can_compile() -> bool:
    return any(shutil.which(compiler) for compiler in ("g++", "clang++"))

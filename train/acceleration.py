"""Settings that leave speed to the machine in, those that pay on it, and a network made ready for them, out."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

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
        precision = precision_that_pays(settings.device) if is_margin else "32-true"
    if compiled is None:
        compiled = is_margin and n_processes == 1 and compiling_pays(n_windows)
    return dataclasses.replace(settings, precision=precision, compile=compiled)


def precision_that_pays(device: Device) -> Precision:
    """bfloat16 for what may be rounded, on a device that multiplies in it."""
    return "bf16-mixed" if _multiplies_bfloat16(device) else "32-true"


def compiling_pays(n_windows: int) -> bool:
    """Whether a run of so many windows makes up for it, and there is a compiler."""
    return n_windows >= _COMPILED_FROM_WINDOWS and any(shutil.which(compiler) for compiler in ("g++", "clang++"))


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

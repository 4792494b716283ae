"""This machine in, what of it an engine or a kernel depends on, as keys of the store, out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_asd.artifacts import Key, Kind
from edge_asd.cuda import Gpu
from edge_asd.engine.tensorrt.library import import_tensorrt

BOARD_PATH = Path("/proc/device-tree/model")
"""What board a Jetson is, as `NVIDIA Jetson Orin NX Engineering Reference Developer Kit`."""
POWER_MODE_PATH = Path("/var/lib/nvpmodel/status")
"""Where nvpmodel of a Jetson notes the mode, as `pmode:0002`."""


def device_key(trt: Any, gpu: Gpu) -> Key:
    """What of this device an engine depends on.

    All Orin modules share one name and one architecture: their multiprocessors, cache and memory tell them apart.
    """
    return {
        "tensorrt": str(trt.__version__),
        "gpu": f"{gpu.name} {gpu.architecture}, {gpu.n_multiprocessors} SM, L2 {gpu.l2_bytes >> 10} KiB, "
        f"{gpu.total_bytes / (1 << 30):.0f} GiB",
        "board": _noted(BOARD_PATH),
        "power_mode": _noted(POWER_MODE_PATH),
    }


def device_keys_here() -> Mapping[Kind, Key]:
    """What all files of a kind must have in their key to be of use on this machine.

    Raises:
        UnavailableError: there is no driver, GPU or TensorRT that serves.
    """
    with Gpu() as gpu:
        of_engines = device_key(import_tensorrt(), gpu)
        return {"engine": of_engines, "timing": of_engines, "kernel": {"architecture": gpu.architecture}}


def device_key_here() -> Key:
    """`device_key` of this machine.

    Raises:
        UnavailableError: there is no driver, GPU or TensorRT that serves.
    """
    return device_keys_here()["engine"]


def _noted(path: Path) -> str:
    """What a Jetson notes in that file; `none` elsewhere."""
    try:
        return path.read_text(encoding="ascii").strip("\0\n ") or "none"
    except (OSError, UnicodeDecodeError):
        return "none"

"""What figures depend on beside settings and data: machine, system, versions, commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

_PACKAGES = (
    "edge-asd",
    "lightning",
    "numpy",
    "onnx",
    "onnxruntime",
    "openvino",
    "paho-mqtt",
    "scikit-learn",
    "soundfile",
    "soxr",
    "torch",
)


def environment() -> dict[str, Any]:
    """Machine, system, versions of what is installed, and the load at this moment."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def cpu_model() -> str:
    """The processor's or the board's name, as Linux tells it."""
    for path, pattern in (
        (Path("/proc/device-tree/model"), r"([^\x00]+)"),  # a Jetson says which board it is
        (Path("/proc/cpuinfo"), r"model name\s*: (.+)"),
    ):
        found = re.search(pattern, path.read_text(encoding="utf-8", errors="replace")) if path.exists() else None
        if found:
            return found.group(1).strip()
    return platform.machine()


def git_state() -> str | None:
    """Commit, with `-dirty` where the checkout has changes; None outside a checkout, or without git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607 - the user's git
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None


def command_line(module: str) -> str:
    """`python -m MODULE` with this process's arguments; where a file lies on this machine is no reader's business."""
    names = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return " ".join(["python", "-m", module, *names])


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None

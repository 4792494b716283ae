"""Figures in, a JSON file out that says what they depend on beside settings and data: machine, versions, commit."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from edge_asd.errors import EdgeAsdError

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


def write_figures(path: Path, module: str, figures: Mapping[str, Any]) -> None:
    """Write figures of `python -m MODULE` as JSON, with the command, the commit and the environment; say where.

    Raises:
        EdgeAsdError: the file cannot be written.
    """
    # Where a file lies on this machine is nothing that a reader could use.
    arguments = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    command = " ".join(["python", "-m", module, *arguments])
    content = {"command": command, "git": git_state(), "environment": environment(), **figures}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise EdgeAsdError(
            f"{path}: cannot be written: {error.strerror}; free the disk or name another file"
        ) from error
    Console(stderr=True).print(f"written to {path}", highlight=False, soft_wrap=True)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None

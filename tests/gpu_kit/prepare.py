"""Where the tests on a GPU find no TensorRT or no NVRTC: fetch them into the environment that runs this.

`.venv-gpu/bin/python tests/gpu_kit/prepare.py`. On a Jetson both come with JetPack and never from pip, so that there it
only says what is missing. A workstation gets the wheels for the CUDA of its driver (some 2 GB).
"""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import subprocess
import sys

from edge_asd.cuda import Nvrtc
from edge_asd.errors import UnavailableError

WHEELS = {
    12: {"TensorRT": "tensorrt-cu12>=10.3,<12", "NVRTC": "nvidia-cuda-nvrtc-cu12"},
    13: {"TensorRT": "tensorrt-cu13>=10.13,<12", "NVRTC": "nvidia-cuda-nvrtc>=13,<14"},
}
ON_A_JETSON = {"TensorRT": "python3-libnvinfer", "NVRTC": "cuda-nvrtc-12-6 (with the numbers of JetPack's CUDA)"}


def main() -> None:
    """Fetch what is missing, or end with what to do."""
    missing = missing_parts()
    if not missing:
        return
    if platform.machine() != "x86_64":
        sys.exit("\n".join(f"{part} is not installed: sudo apt install {ON_A_JETSON[part]}" for part in missing))
    wheels = WHEELS.get(driver_cuda_major())
    if wheels is None:
        sys.exit("no driver of CUDA 12 or 13 is here: nothing to test; install NVIDIA's driver")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *(wheels[part] for part in missing)], check=True)


def missing_parts() -> list[str]:
    """What cannot be found, as WHEELS names it."""
    missing = [] if importlib.util.find_spec("tensorrt") else ["TensorRT"]
    try:
        Nvrtc()
    except UnavailableError:
        missing.append("NVRTC")
    return missing


def driver_cuda_major() -> int:
    """As in 12; 0 without a driver."""
    version = ctypes.c_int()
    try:
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except OSError:
        return 0
    return version.value // 1000


if __name__ == "__main__":
    main()

"""NVIDIA's wheels from the package index in, TensorRT's Python API where there is no GPU, as a folder, out.

`python tests/tensorrt_kit/prepare.py FOLDER` makes, for tests alone:

FOLDER/builder   `import tensorrt` of 11.4 that parses ONNX and builds engines on the CPU (by the TensorRT-RTX library)
FOLDER/8.6, 10.3, 10.13, 10.16   `import tensorrt` whose classes can be looked at; 8.6 for Python up to 3.11 alone
FOLDER/nvrtc     the compiler library of JetPack 6.1 and 6.2's CUDA

About 180 MB are fetched. Needs gcc and x86-64 Linux. NVIDIA's files never belong in a commit.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
BINDINGS = {
    "8.6": "tensorrt-bindings==8.6.1",
    "10.3": "tensorrt-cu12-bindings==10.3.0",
    "10.13": "tensorrt-cu12-bindings==10.13.3.9",
    "10.16": "tensorrt-cu13-bindings==10.16.1.11",
}
BUILDER = ("tensorrt-cu13-bindings==11.4.0.106", "onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0")
NVRTC = "nvidia-cuda-nvrtc-cu12==12.6.85"
NEWEST_PYTHON_OF_8_6 = (3, 11)
LIBRARIES = ("libnvinfer", "libnvonnxparser", "libnvinfer_plugin")
INIT = """# TEST ONLY
import ctypes
import pathlib

for _library in {libraries!r}:
    ctypes.CDLL(str(pathlib.Path(__file__).parent / "lib" / _library), mode=ctypes.RTLD_GLOBAL)
from tensorrt_bindings import *
from tensorrt_bindings import __version__
"""


def main() -> None:
    """Make the folder whole or not at all."""
    folder = Path(sys.argv[1])
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        kit = Path(name) / "kit"
        _builder(kit / "builder")
        for version, wheel in BINDINGS.items():
            if version != "8.6" or sys.version_info[:2] <= NEWEST_PYTHON_OF_8_6:
                _bindings(kit / version, wheel)
        _unpack(kit / "nvrtc", NVRTC)
        shutil.rmtree(folder, ignore_errors=True)
        kit.rename(folder)


def _builder(folder: Path) -> None:
    unpacked = _unpack(folder / "wheels", *BUILDER)
    (folder / "tensorrt" / "lib").mkdir(parents=True)
    (unpacked / "tensorrt_bindings").rename(folder / "tensorrt_bindings")
    names = []
    for stem in ("libtensorrt_rtx", "libtensorrt_onnxparser_rtx"):
        (found,) = unpacked.glob(f"onnxruntime_ep_nv_tensorrt_rtx/{stem}.so.*")
        found.rename(folder / "tensorrt" / "lib" / f"{stem}.so.1")
        names.append(f"{stem}.so.1")
    for number, stem in enumerate(LIBRARIES, 1):
        names.append(f"{stem}.so.11")
        _compile(folder / "tensorrt" / "lib" / names[-1], HERE / "forward.c", f"-DLIBRARY={number}")
    shutil.rmtree(unpacked)
    (folder / "tensorrt" / "__init__.py").write_text(INIT.format(libraries=names))


def _bindings(folder: Path, wheel: str) -> None:
    _unpack(folder, wheel)
    (folder / "tensorrt" / "lib").mkdir(parents=True)
    stems, major = ((*LIBRARIES, "libnvparsers"), 8) if folder.name == "8.6" else (LIBRARIES, 10)
    names = [f"{stem}.so.{major}" for stem in stems]
    for name in names:
        _compile(folder / "tensorrt" / "lib" / name, HERE / "absent.c")
    (folder / "tensorrt" / "__init__.py").write_text(INIT.format(libraries=names))


def _unpack(folder: Path, *wheels: str) -> Path:
    folder.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", folder]
    subprocess.run([*pip, *wheels], check=True)
    for wheel in folder.glob("*.whl"):
        shutil.unpack_archive(wheel, folder, "zip")
        wheel.unlink()
    return folder


def _compile(library: Path, source: Path, *options: str) -> None:
    command = ["gcc", "-shared", "-fPIC", "-O1", f"-Wl,-soname,{library.name}", *options, "-o", library, source, "-ldl"]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()

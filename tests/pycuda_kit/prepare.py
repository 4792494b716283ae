"""pycuda's source and CUDA's headers from the package index in, a pycuda that can be imported without a GPU out.

`python tests/pycuda_kit/prepare.py FOLDER` builds it there, for tests alone, against the headers of JetPack 6.1 and
6.2's CUDA and an empty libcuda. Needs g++ and x86-64 Linux, and two minutes or so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PYCUDA = "pycuda==2026.1"
HEADERS = ("nvidia-cuda-runtime-cu12==12.6.77", "nvidia-cuda-profiler-api-cu12==12.6.77")
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


def main() -> None:
    """Make the folder whole or not at all."""
    folder = Path(sys.argv[1])
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        work = Path(name).resolve()
        include = _headers(work / "headers")
        source = _source(work / "source")
        library = ["-Wl,-soname,libcuda.so.1", "-o", work / "libcuda.so"]
        subprocess.run(["gcc", "-shared", *library, "-x", "c", "/dev/null"], check=True)
        options = [
            "--no-cuda-enable-curand",
            f"--cuda-inc-dir={','.join(map(str, include))}",
            f"--cudadrv-lib-dir={work}",
        ]
        subprocess.run([sys.executable, "configure.py", *options], cwd=source, check=True, stdout=subprocess.DEVNULL)
        # It shall ask for libcuda, though this one has nothing to give.
        environment = {**os.environ, "LDFLAGS": "-Wl,--no-as-needed"}
        subprocess.run([*PIP, "install", "--target", work / "kit", source], env=environment, check=True)
        shutil.rmtree(folder, ignore_errors=True)
        (work / "kit").rename(folder)


def _headers(folder: Path) -> list[Path]:
    _download(folder, "--only-binary=:all:", *HEADERS)
    for wheel in folder.glob("*.whl"):
        shutil.unpack_archive(wheel, folder, "zip")
    return list(folder.glob("nvidia/*/include"))


def _source(folder: Path) -> Path:
    _download(folder, "--no-binary=pycuda", PYCUDA)
    (archive,) = folder.glob("*.tar.gz")
    shutil.unpack_archive(archive, folder, filter="data")
    (source,) = folder.glob("pycuda-*/")
    return source


def _download(folder: Path, *what: str) -> None:
    subprocess.run([*PIP, "download", "--no-deps", "--dest", folder, *what], check=True)


if __name__ == "__main__":
    main()

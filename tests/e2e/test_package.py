"""What ships: the wheel holds the device part alone, and it works without the workstation's packages."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_wheel_holds_edge_asd_alone(tmp_path):
    """No train, export, tests or example in site-packages; the entry point is there."""
    source = tmp_path / "source"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if name.startswith("edge_asd/") or "/" not in name:
            copy = source / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        tmp_path,
        source,
    ]
    subprocess.run(command, check=True, capture_output=True)
    wheel = zipfile.ZipFile(next(tmp_path.glob("*.whl")))
    names = wheel.namelist()
    info = next(name.split("/")[0] for name in names if ".dist-info/" in name)
    assert {name.split("/")[0] for name in names} == {"edge_asd", info}
    assert "edge_asd/py.typed" in names
    assert "edge-asd = edge_asd.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "edge_asd").rglob("*.py")}
    assert modules <= set(names)


def test_the_device_part_imports_no_workstation_package():
    """All modules of edge_asd import in a process where torch, onnx and the workstation packages cannot be."""
    program = """
import importlib, pkgutil, sys
for name in ("torch", "onnx", "lightning", "scipy", "sklearn", "librosa", "train", "export"):
    sys.modules[name] = None
import edge_asd
for module in pkgutil.walk_packages(edge_asd.__path__, "edge_asd."):
    importlib.import_module(module.name)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr

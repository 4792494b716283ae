"""What ships: the wheel holds the device part alone, and it works without the workstation's packages."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import edge_asd

ROOT = Path(__file__).resolve().parents[2]
LIST_FILES = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
SYSTEMD = ROOT / "firmware_configs" / "systemd"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from what git knows or would."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = subprocess.run(LIST_FILES, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (name.startswith("edge_asd/") or "/" not in name) and (ROOT / name).exists():
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
        folder,
        source,
    ]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_edge_asd_alone(wheel):
    """No train, export, tests or example in site-packages; the entry point is there."""
    archive = zipfile.ZipFile(wheel)
    names = archive.namelist()
    info = next(name.split("/")[0] for name in names if ".dist-info/" in name)
    assert {name.split("/")[0] for name in names} == {"edge_asd", info}
    assert "edge_asd/py.typed" in names
    assert "edge-asd = edge_asd.cli:main" in archive.read(f"{info}/entry_points.txt").decode()
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "edge_asd").rglob("*.py")}
    assert modules <= set(names)


def test_a_device_is_installed_from_the_archive(wheel, tmp_path):
    """The packed archive installs into a folder: program, unit, user, configurations and documents, secrets closed.

    What the program depends on comes from this environment, since a test asks no package index.
    """
    packed = subprocess.run([SYSTEMD / "pack.sh", wheel, tmp_path], capture_output=True, check=True, text=True).stdout
    subprocess.run(["tar", "-xzf", packed.strip(), "-C", tmp_path], check=True)
    (unpacked,) = tmp_path.glob("edge-asd-device-*/")
    image = tmp_path / "image"
    environment = {
        **os.environ,
        "DESTDIR": str(image),
        "PYTHON": sys.executable,
        "EXTRAS": "onnxruntime",
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PYTHONPATH": next(path for path in sys.path if path.endswith("site-packages")),
    }
    for _ in range(2):  # the second time renews what is there
        done = subprocess.run([unpacked / "install.sh"], env=environment, capture_output=True, check=False, text=True)
        assert done.returncode == 0, done.stderr
    prefix = image / "opt" / "edge-asd"
    program = prefix / "bin" / "edge-asd"
    assert program.read_text().splitlines()[0] == "#!/opt/edge-asd/bin/python"
    assert str(image) not in (prefix / "pyvenv.cfg").read_text()
    run = [prefix / "bin" / "python", "-P"] if sys.version_info >= (3, 11) else [prefix / "bin" / "python"]
    done = subprocess.run([*run, program, "--version"], env=environment, capture_output=True, check=False, text=True)
    assert done.stdout == f"edge-asd {edge_asd.__version__}\n", done.stderr
    where = [*run, "-c", "import edge_asd; print(edge_asd.__file__)"]
    done = subprocess.run(where, env=environment, capture_output=True, check=False, text=True, cwd=tmp_path)
    assert "site-packages/edge_asd" in done.stdout
    unit = (image / "usr/local/lib/systemd/system/edge-asd.service").read_text()
    started = next(line.partition("=")[2] for line in unit.splitlines() if line.startswith("ExecStart="))
    assert (image / started.split()[0].lstrip("/")) == program
    assert (prefix / "share/configs/jetson-orin-nano.yaml").exists()
    assert (prefix / "share/doc/install.md").exists()
    loaded = re.findall(r"^LoadCredential=(\S+):(\S+)$", unit, re.MULTILINE)
    assert loaded
    for _, path in loaded:
        assert (image / path.lstrip("/")).stat().st_mode & 0o777 == 0o600


def test_the_device_part_imports_no_workstation_package():
    """All modules of edge_asd import in a process where torch, onnx and the workstation packages cannot be.

    All but the one that binds pycuda, which imports on a machine with a CUDA driver alone.
    """
    program = """
import importlib, pkgutil, sys
for name in ("torch", "onnx", "lightning", "scipy", "sklearn", "librosa", "train", "export"):
    sys.modules[name] = None
import edge_asd
for module in pkgutil.walk_packages(edge_asd.__path__, "edge_asd."):
    if module.name != "edge_asd.cuda.pycuda_binding":
        importlib.import_module(module.name)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr

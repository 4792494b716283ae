"""pycuda where it can be imported, ctypes where it cannot: both do the same, and it is told why."""

import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_asd.cuda import Gpu

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
KIT = Path(sys.prefix) / "pycuda-kit"


@pytest.mark.usefixtures("fake_cuda")
def test_without_pycuda_the_driver_is_called_through_ctypes(caplog) -> None:
    """A missing pycuda costs nothing, and is told with the reason."""
    with caplog.at_level(logging.INFO), Gpu() as gpu:
        assert gpu.binding == "ctypes"
    assert "pycuda cannot be imported (No module named" in caplog.text


def test_engine_runs_through_pycuda(build_fake_libcuda, make_hand_bundle, tmp_path) -> None:
    """Opened, heard and closed by three threads: the network's numbers, one replay a hop, nothing left, no abort."""
    if not KIT.is_dir() and importlib.util.find_spec("pycuda") is None:
        pytest.skip(f"pycuda is neither installed nor in {KIT}: make pycuda-kit builds it there, in two minutes")
    bundle = make_hand_bundle()
    shutil.copy(build_fake_libcuda(bundle.manifest.feature_spec), tmp_path / "libcuda.so.1")
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": f"{tmp_path}:{os.environ.get('LD_LIBRARY_PATH', '')}",
        "PYTHONPATH": f"{KIT}:{ROOT}" if KIT.is_dir() else str(ROOT),
    }
    command = [sys.executable, HERE / "pycuda_program.py", bundle.path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said["binding"] == "pycuda"
    np.testing.assert_allclose(said["cosine"], said["expected"], atol=2e-5)
    assert said["log_mel_difference_db"] < 1e-3
    assert said["calls"] == ["cuCtxPushCurrent_v2", "cuGraphLaunch", "cuStreamSynchronize", "cuCtxPopCurrent_v2"]
    assert said["grown"] == 0
    assert said["exhausted"].startswith("GPU memory is exhausted: 0.0 MB wanted for a test")
    assert "cuStreamSynchronize failed" in said["fault"]
    assert said["left"] == [0, 0, 0]

"""The GPU's benchmark on a GPU that is none: that all of it runs and computes; its times mean nothing here."""

import ctypes
import json
import sys

import numpy as np
import pytest

from edge_asd.cuda import Gpu
from edge_asd.pipeline import open_pipeline

KERNELS = ("log-mel", "log-mel-of-a-tone", "rings", "copy")


@pytest.fixture(autouse=True)
def gpu_front_end(monkeypatch):
    """The benchmark with few launches of few threads."""
    pytest.importorskip("onnx", reason="onnx, which counts the network's work, is not installed")
    from benchmarks import gpu_front_end

    for name, value in (("_MOST_BLOCKS", 2), ("_COPY_BYTES", 4096), ("_FMA_STEPS", 3), ("_BATCHES", (1, 2))):
        monkeypatch.setattr(gpu_front_end, name, value)
    monkeypatch.setattr(gpu_front_end, "N_REPEATS", 1)
    monkeypatch.setattr(gpu_front_end, "N_LAUNCHES", 1)
    return gpu_front_end


def test_front_end_is_measured_beside_a_copy_of_its_data(
    gpu_front_end, install_tensorrt, make_hand_bundle, monkeypatch, capsys
) -> None:
    """Ceilings, kernel, rings and copy for one machine and for several, in one line of JSON."""
    install_tensorrt()  # and its compiler
    from edge_asd.engine import tensorrt

    monkeypatch.setattr(gpu_front_end, "Nvrtc", tensorrt.Nvrtc)
    monkeypatch.setattr(sys, "argv", ["gpu_front_end", str(make_hand_bundle().path)])
    gpu_front_end.main()
    measured = json.loads(capsys.readouterr().out)
    names = [f"{name}{suffix}" for suffix in ("", "-x2") for name in KERNELS]
    assert list(measured["contestants"]) == names
    assert measured["contestants"]["log-mel"]["bound_us"] != 0
    assert measured["ceilings"]["operations_per_s"].keys() == {"fp32"}
    assert measured["gpu"]["binding"] == "ctypes"


@pytest.mark.usefixtures("fake_cuda")
def test_copy_copies_and_chains_multiply() -> None:
    """The kernels that stand for the ceilings do the work that is counted."""
    with Gpu() as gpu, gpu.current():
        copy, multiply_add = gpu.kernels(b"any", ("copy_all", "multiply_add"))
        values = np.arange(1000, dtype=np.float32)
        source, target = gpu.constant(values, "source"), gpu.allocate(values.nbytes, "target")
        out = gpu.allocate(4 * 64, "sums")
        copy((2, 1), 32, np.uint64(source), np.uint64(target), np.int32(250))
        multiply_add((2, 1), 32, np.uint64(out), np.int32(2))
        gpu.synchronize()
        copied = np.frombuffer((ctypes.c_float * 1000).from_address(target), dtype=np.float32)
        np.testing.assert_array_equal(copied, values)
        sums = np.frombuffer((ctypes.c_float * 64).from_address(out), dtype=np.float32)
        thread = np.arange(64) % 32
        expected = sum(0.1 * i * 0.999**2 + 0.001 * thread * (1 + 0.999) for i in range(8))
        np.testing.assert_allclose(sums, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["tensorrt-int8", "tensorrt-int8-x16", "tensorrt-fp16"])
def test_contestants_score_on_the_device(install_tensorrt, make_hand_bundle, monkeypatch, name) -> None:
    """One machine, sixteen in a batch, and a half network that the bundle lacks."""
    from benchmarks import contestant

    install_tensorrt()
    monkeypatch.setattr("export.half.half_from_fp32", lambda model: model)  # whose network is not the hand network
    bundle = make_hand_bundle()
    monkeypatch.setattr(contestant, "HOP_SAMPLES", 640)
    opened = contestant._open_product(name, bundle.path)
    windows = contestant._windows(bundle.golden, bundle.manifest)
    assert len(contestant._burst(opened.score, windows, 2, 1)) == 2
    window = next(windows)
    reference = open_pipeline(bundle, prefer=["onnxruntime"], precision="int8").ear("bldc/M1").score(window)
    assert opened.score(window)[1] == pytest.approx(reference.score, abs=1e-3)

"""A serialized engine is run window by window, on a CUDA device and a TensorRT that are none."""

import numpy as np
import pytest

from edge_asd.cuda import Gpu
from edge_asd.engine.onnxruntime import OnnxRuntimeEngine
from edge_asd.engine.tensorrt.build import BuildSettings, build_engine
from edge_asd.engine.tensorrt.library import import_tensorrt, make_logger
from edge_asd.errors import UnavailableError
from export.plan_runner import PlanRunner


@pytest.fixture
def bundle(make_hand_bundle):
    return make_hand_bundle()


@pytest.fixture
def gpu(install_tensorrt):
    install_tensorrt()
    gpu = Gpu()
    with gpu.current():
        yield gpu
    gpu.close()


@pytest.fixture
def make_runner(bundle, gpu):
    """A function that builds the hand network's engine and opens it, with other names for its tensors."""
    opened = []

    def make(names=("wave", "log_mel", "embedding", "cosine"), plan=None):
        trt = import_tensorrt()
        manifest = bundle.manifest
        if plan is None:
            settings = BuildSettings(precision="fp32", batch_sizes=(1,))
            model = bundle.onnx_model("fp32")
            built = build_engine(
                trt, make_logger(trt), model, manifest.inputs, settings, timings=None, say=lambda _: None
            )
            plan = built.plan
        tensors = dict(zip(names, (*manifest.inputs, *manifest.outputs), strict=True))
        opened.append(PlanRunner(trt, gpu, plan=plan, tensors=tensors))
        return opened[-1]

    yield make
    for runner in opened:
        runner.close()


def test_engine_answers_as_the_network_does(bundle, make_runner):
    """Several windows in one call, and the answers of one call outlive the next."""
    golden = bundle.golden
    runner = make_runner()
    first = runner(golden.wave, golden.log_mel)
    runner(golden.wave[::-1], golden.log_mel[::-1])
    expected = OnnxRuntimeEngine(bundle.onnx_model("fp32"), precision="fp32", threads=1).infer(
        golden.wave, golden.log_mel
    )
    np.testing.assert_allclose(first.embedding, expected.embedding, atol=1e-6)
    np.testing.assert_allclose(first.cosine, expected.cosine, atol=1e-6)


def test_engine_with_other_tensors_is_refused(make_runner):
    """Both lists of names are in the message."""
    with pytest.raises(UnavailableError, match=r"has tensors .*embedding.*; expected .*output0"):
        make_runner(names=("wave", "log_mel", "output0", "output1"))


def test_foreign_engine_is_refused(make_runner):
    """What TensorRT does not take says so."""
    with pytest.raises(UnavailableError, match=r"refuses an engine.*expected one TensorRT"):
        make_runner(plan=b"nonsense")


def test_null_of_tensorrt_is_told_with_advice(make_runner, monkeypatch):
    """The bindings raise TypeError where TensorRT gives them no runtime."""

    def nothing(_logger):
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(import_tensorrt(), "Runtime", nothing)
    with pytest.raises(UnavailableError, match=r"TensorRT 10\.3\.0 cannot start on this machine .*update the driver"):
        make_runner()

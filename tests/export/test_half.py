"""Half precision: what is half and what must not be, and that the network stays the same."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_asd.bundle import open_bundle
from edge_asd.errors import EdgeAsdError
from edge_asd.features import log_mel_db
from export.half import half_from_fp32
from export.onnx_model import onnx_from_network
from export.runners import runner_from_network, runner_from_onnx
from tests.export.conftest import SPEC, made_up_clip, random_checkpoint
from train.network import NetworkSpec

EXAMPLE = next(iter(sorted((Path(__file__).parents[2] / "examples").glob("*/*.asd"))))


@pytest.fixture(scope="module")
def bundle():
    """The example, a trained network with all branches."""
    return open_bundle(EXAMPLE)


@pytest.fixture(scope="module")
def half(bundle):
    """Its network in half precision."""
    return half_from_fp32(bundle.onnx_model("fp32"))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_network_stays_the_same(bundle, half, engine) -> None:
    """Embeddings and cosines are within half precision's rounding, for quiet sound too, on the CPU's engines too."""
    golden = bundle.golden
    for gain in (1.0, 1e-3):
        wave = (gain * golden.wave).astype(np.float32)
        log_mel = (golden.log_mel + 20 * np.log10(gain)).astype(np.float32)
        expected = runner_from_onnx(bundle.onnx_model("fp32"), "fp32")(wave, log_mel)
        found = runner_from_onnx(half, "fp16", engine)(wave, log_mel)
        assert (expected.embedding * found.embedding).sum(axis=1).min() > 0.9999
        np.testing.assert_allclose(found.cosine, expected.cosine, atol=2e-3)


def test_body_is_half_and_what_is_delicate_is_not(half) -> None:
    """First layers, LayerNorm, the head and the norm of the embedding compute in float32; 30 convolutions do not."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(half), strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
    types |= {value.name: value.type.tensor_type.elem_type for value in graph.input}
    by_operator: dict[str, list[int]] = {}
    for node in graph.node:
        by_operator.setdefault(node.op_type, []).append(types[node.output[0]])
    for operator in ("LayerNormalization", "Gemm", "BatchNormalization", "ReduceL2", "Div"):
        assert set(by_operator[operator]) == {TensorProto.FLOAT}
    assert sorted(by_operator["Conv"]) == [TensorProto.FLOAT] * 3 + [TensorProto.FLOAT16] * 31
    reads_input = [node for node in graph.node if {"wave", "log_mel"} & set(node.input)]
    assert not any(node.op_type == "Cast" for node in reads_input)
    assert {types[value.name] for value in (*graph.input, *graph.output)} == {TensorProto.FLOAT}


@pytest.mark.slow
def test_weighted_frames_stay_single(split) -> None:
    """The sigmoid of a level in dB is far below what half precision has; that branch goes to the engines too."""
    spec = NetworkSpec(n_classes=3, branches=("tagram",), head_activation="leaky_relu")
    checkpoint = random_checkpoint(spec, split)
    onnx_fp32 = onnx_from_network(checkpoint.network, checkpoint.feature_spec)
    wave = np.stack([made_up_clip(seed, 300.0)[: SPEC.window_samples] for seed in range(2)])
    log_mel = log_mel_db(wave)
    expected = runner_from_network(checkpoint.network)(wave, log_mel)
    for model, precision, least in ((onnx_fp32, "fp32", 0.99999), (half_from_fp32(onnx_fp32), "fp16", 0.999)):
        for engine in ("onnxruntime", "openvino"):
            found = runner_from_onnx(model, precision, engine)(wave, log_mel)
            assert (expected.embedding * found.embedding).sum(axis=1).min() > least


def test_weight_beyond_half_precision_is_refused() -> None:
    """A number that half precision does not have is named with its weight."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["wave"], ["a"], name="first"),
            helper.make_node("Add", ["a", "offset"], ["b"], name="body"),
            helper.make_node("Div", ["b", "offset"], ["embedding"], name="norm"),
        ],
        "hand",
        [value("wave", TensorProto.FLOAT, ["batch", 3])],
        [value("embedding", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.float32([1.0, 7e4, 2.0]), "offset")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    with pytest.raises(EdgeAsdError, match=r"weight offset reaches 70000; expected at most 65504"):
        half_from_fp32(model.SerializeToString())

"""INT8 keeps what the network says, in a form that every engine takes."""

from __future__ import annotations

import zlib

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy
from onnx import numpy_helper

from edge_asd.errors import EdgeAsdError
from edge_asd.features import log_mel_db
from edge_asd.score import MarginScorer
from edge_asd.types import FeatureSpec
from export.fall_back import layer_costs
from export.onnx_model import check_operators
from export.parity import evaluate
from export.quantize import QuantizedNetwork
from export.runners import runner_from_network, runner_from_onnx
from export.short_weights import shortest_floats
from export.trial import embedding_loss, windows_at
from export.windows import Windows, with_louder


@pytest.fixture(scope="module")
def int8(quantized) -> bytes:
    """The model with all layers in INT8, as a bundle would hold it."""
    return quantized.model(in_float=())


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_float32_model_says_what_torch_says(checkpoint, onnx_fp32, windows, batch_size):
    """For any size of the batch."""
    wave, log_mel = windows[0].wave[:batch_size], windows[0].log_mel[:batch_size]
    expected = runner_from_network(checkpoint.network)(wave, log_mel)
    found = runner_from_onnx(onnx_fp32, "fp32")(wave, log_mel)
    np.testing.assert_allclose(found.embedding, expected.embedding, atol=1e-4)
    np.testing.assert_allclose(found.cosine, expected.cosine, atol=1e-4)


def test_model_holds_its_weights_and_no_source_paths(onnx_fp32):
    """One file, without the names of the files of the machine that made it."""
    model = onnx.load_from_string(onnx_fp32)
    assert not any(initializer.external_data for initializer in model.graph.initializer)
    assert b".py" not in onnx_fp32


def test_int8_embeddings_stay_near(onnx_fp32, int8, windows):
    """Cosine of at least 0.98 on every window with no layer in float but the class product."""
    expected = runner_from_onnx(onnx_fp32, "fp32")(windows[0].wave, windows[0].log_mel).embedding
    found = runner_from_onnx(int8, "int8")(windows[0].wave, windows[0].log_mel).embedding
    assert (expected * found).sum(axis=1).min() >= 0.98


def test_draft_is_the_model_to_the_last_bit(quantized, int8, windows):
    """What layers are measured with is what they will be, where all are in INT8."""
    wave, log_mel = windows[0].wave[:1], windows[0].log_mel[:1]
    draft = runner_from_onnx(quantized.draft(in_float=()), "int8")(wave, log_mel)
    np.testing.assert_array_equal(draft.cosine, runner_from_onnx(int8, "int8")(wave, log_mel).cosine)


IN_FLOAT = ("tgram.extractor", "tfgram.block2.conv1", "backbone.stem.conv", "backbone.blocks.2.widen.conv")
"""Two layers that half precision would spoil, the first behind each input, and two of the body."""


def test_layers_in_float_are_half_where_the_whole_network_would_be(quantized, half_elsewhere):
    """Body layers that are not in INT8 compute in half precision; Q, DQ and what they join stay as they were."""
    graph = onnx.shape_inference.infer_shapes(half_elsewhere, strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    types |= {initializer.name: initializer.data_type for initializer in graph.initializer}
    layers = {quantized.layers.get(node.name): node for node in graph.node if node.op_type in ("Conv", "Add", "Gemm")}
    for name, node in layers.items():
        half = name in IN_FLOAT and name not in ("tgram.extractor", "backbone.stem.conv")
        expected = onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
        assert {types[tensor] for tensor in (*node.input, *node.output)} == {expected}, name
    for name, activation in (("tfgram.block2.conv1", "Relu"), ("backbone.blocks.2.widen.conv", "PRelu")):
        (reader,) = (node for node in graph.node if layers[name].output[0] in node.input)
        assert (reader.op_type, types[reader.output[0]]) == (activation, onnx.TensorProto.FLOAT16)
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            assert types[node.input[0]] == onnx.TensorProto.FLOAT
    drafted = onnx.load_from_string(quantized.draft(in_float=nodes_of(quantized, IN_FLOAT))).graph
    counts = [sum(node.op_type == "QuantizeLinear" for node in each.node) for each in (graph, drafted)]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_half_elsewhere_says_the_same(quantized, half_elsewhere, windows, engine):
    """As with float32 in its place, on the CPU's engines, for quiet sound too."""
    draft = quantized.draft(in_float=nodes_of(quantized, IN_FLOAT))
    single, half = (runner_from_onnx(each, "int8", engine) for each in (draft, half_elsewhere.SerializeToString()))
    two = windows_at(windows, np.arange(2))
    for batch in (two, _at(two, 1e-3)):
        expected, found = (run(batch.wave, batch.log_mel).embedding for run in (single, half))
        assert (expected * found).sum(axis=1).min() > 0.999


def nodes_of(quantized, names):
    """Of layers, by their names for people."""
    nodes = [node for node, name in quantized.layers.items() if name in names]
    assert len(nodes) == len(names)
    return nodes


@pytest.fixture(scope="module")
def half_elsewhere(quantized) -> onnx.ModelProto:
    """The model with some layers in float."""
    return onnx.load_from_string(quantized.model(in_float=nodes_of(quantized, IN_FLOAT)))


def test_layers_in_float_have_no_integers(quantized):
    """The fewer layers in INT8, the fewer Q; the outputs and what gives them are float in any case."""
    counts = []
    for n_float in (0, 5, len(quantized.layers)):
        graph = onnx.load_from_string(quantized.model(in_float=list(quantized.layers)[:n_float])).graph
        counts.append(sum(node.op_type == "QuantizeLinear" for node in graph.node))
        producers = {output: node.op_type for node in graph.node for output in node.output}
        assert {producers[value.name] for value in graph.output} == {"Div", "Gemm", "ReduceMean"}
    assert counts[0] > counts[1] > counts[2] == 0
    assert {"head.squeeze", "backbone.stem.conv", "tgram.extractor"} <= set(quantized.layers.values())


def _at(windows: Windows, peak: float) -> Windows:
    """The same windows with that peak."""
    wave = windows.wave * (peak / np.abs(windows.wave).max(axis=1, keepdims=True))
    return Windows(wave=wave, log_mel=log_mel_db(wave), label=windows.label)


def test_louder_windows_stay_within_full_scale(windows):
    """10, 20 and 30 dB louder where there is room, as loud as full scale allows where there is not; silence stays."""
    wave = np.stack([_at(windows[0], 0.01).wave[0], _at(windows[0], 0.2).wave[0], np.zeros(160_000, np.float32)])
    batch = Windows(wave=wave, log_mel=log_mel_db(wave), label=np.zeros(3, np.int64))
    same, *louder = with_louder([batch], FeatureSpec())
    assert same is batch
    peaks = np.stack([np.abs(one.wave).max(axis=1) for one in louder])  # (3, B)
    np.testing.assert_allclose(peaks, [[0.0316, 0.632, 0], [0.1, 1, 0], [0.316, 1, 0]], rtol=2e-3)
    np.testing.assert_array_equal(louder[0].log_mel, log_mel_db(louder[0].wave))


def test_quantization_is_what_tensorrt_takes(int8):
    """Symmetric, zero points 0, no integer biases, weights as floats ahead of Q, per channel."""
    model = onnx.load_from_string(int8)
    check_operators(model)
    initializers = {initializer.name: numpy_helper.to_array(initializer) for initializer in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(nodes) > 100
    for node in nodes:
        zero_point = initializers[node.input[2]]
        assert zero_point.dtype == np.int8
        assert not zero_point.any()
    weights = [node for node in nodes if node.op_type == "QuantizeLinear" and node.input[0] in initializers]
    assert len(weights) == 36
    assert all(initializers[node.input[0]].dtype == np.float32 for node in weights)
    assert all(initializers[node.input[1]].ndim == 1 for node in weights if len(initializers[node.input[0]].shape) > 2)


def test_int8_model_compresses_to_less_than_half(onnx_fp32, int8):
    """Its weights stand there as floats, but as short ones: a bundle carries both models."""
    assert len(zlib.compress(int8)) < len(onnx_fp32) / 2


@given(
    values=hypothesis_numpy.arrays(np.float32, (4, 9), elements=st.floats(-10, 10, width=32)),
    step=hypothesis_numpy.arrays(np.float32, (4, 1), elements=st.floats(0.0009765625, 1, width=32)),
)
def test_shortened_weights_round_to_the_same_integers(values, step):
    """The quantized network is the same to the last bit, however short its floats."""
    expected = np.clip(np.rint(values / step), -128, 127)
    shortened = shortest_floats(values, step)
    np.testing.assert_array_equal(np.rint(shortened / step), expected)
    assert not (shortened.view(np.uint32) & 0x3FFF).any()  # 14 low bits of the mantissa are free


def test_operator_that_not_every_engine_has_is_refused(onnx_fp32):
    """By name, with what is allowed."""
    model = onnx.load_from_string(onnx_fp32)
    model.graph.node[0].op_type = "STFT"
    with pytest.raises(EdgeAsdError, match=r"'STFT': 1.*expected opset 17"):
        check_operators(model)


def test_each_layer_alone_is_measured_on_the_real_network(onnx_fp32, quantized, windows):
    """With all others in float it changes less than all together; with all of them in float nothing is changed."""
    batch = windows_at(windows, np.array([3, 0]))
    np.testing.assert_array_equal(batch.wave[0], windows[0].wave[3])
    scorer = MarginScorer(30.0, 0.4, n_classes=3)
    reference = evaluate({"": runner_from_onnx(onnx_fp32, "fp32")}, [batch], scorer)[""]
    everything = evaluate({"": runner_from_onnx(quantized.draft(in_float=()), "int8")}, [batch], scorer)[""]
    some = {node: name for node, name in quantized.layers.items() if name in {"backbone.stem.conv", "head.restore"}}
    quantized_alone = _Some(quantized, some)
    costs = layer_costs(quantized_alone, batch, reference, scorer)
    assert {cost.name for cost in costs} == set(some.values())
    for cost in costs:
        assert 0.0 < max(cost.embedding_loss) < embedding_loss(reference, everything).max()
    exact = runner_from_onnx(quantized.draft(in_float=list(quantized.layers)), "int8")(batch.wave, batch.log_mel)
    expected = runner_from_onnx(onnx_fp32, "fp32")(batch.wave, batch.log_mel)
    np.testing.assert_allclose(exact.cosine, expected.cosine, atol=1e-4)
    assert "QuantizeLinear" not in {
        node.op_type for node in onnx.load_from_string(quantized.draft(in_float=list(quantized.layers))).graph.node
    }


class _Some(QuantizedNetwork):
    """A quantized network of which only some layers are measured, the rest of them float throughout."""

    def __init__(self, network, layers) -> None:
        self._network, self.layers = network, layers
        self._others = [node for node in network.layers if node not in layers]

    def draft(self, *, in_float):
        return self._network.draft(in_float=[*self._others, *in_float])

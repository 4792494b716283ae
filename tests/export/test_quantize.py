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
from edge_asd.types import FeatureSpec
from export.onnx_model import check_operators, onnx_from_network
from export.quantize import quantize, shortest_floats
from export.runners import runner_from_network, runner_from_onnx
from export.windows import Windows, find_calibration_clips, read_windows, with_louder


@pytest.fixture(scope="module")
def windows(clip_folder, checkpoint):
    """The healthy clips' windows, in one batch."""
    clips = find_calibration_clips(clip_folder, checkpoint).for_ranges
    return list(
        read_windows(clip_folder, clips, classes=checkpoint.classes, spec=checkpoint.feature_spec, batch_size=16)
    )


@pytest.fixture(scope="module")
def onnx_fp32(checkpoint) -> bytes:
    """The exported network."""
    return onnx_from_network(checkpoint.network, checkpoint.feature_spec)


@pytest.fixture(scope="module")
def quantized(onnx_fp32, windows):
    """Its INT8 model."""
    return quantize(onnx_fp32, lambda: iter(windows))


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


def test_int8_embeddings_stay_near_with_no_layer_in_float(onnx_fp32, quantized, windows):
    """Cosine of at least 0.99 on every window."""
    expected = runner_from_onnx(onnx_fp32, "fp32")(windows[0].wave, windows[0].log_mel).embedding
    found = runner_from_onnx(quantized.model, "int8")(windows[0].wave, windows[0].log_mel).embedding
    assert quantized.float_layers == ()
    assert (expected * found).sum(axis=1).min() >= 0.99


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


def test_quantization_is_what_tensorrt_takes(quantized):
    """Symmetric, zero points 0, no integer biases, weights as floats ahead of Q, per channel."""
    model = onnx.load_from_string(quantized.model)
    check_operators(model)
    initializers = {initializer.name: numpy_helper.to_array(initializer) for initializer in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(nodes) > 100
    for node in nodes:
        zero_point = initializers[node.input[2]]
        assert zero_point.dtype == np.int8
        assert not zero_point.any()
    weights = [node for node in nodes if node.op_type == "QuantizeLinear" and node.input[0] in initializers]
    assert len(weights) == 37
    assert all(initializers[node.input[0]].dtype == np.float32 for node in weights)
    assert all(initializers[node.input[1]].ndim == 1 for node in weights if len(initializers[node.input[0]].shape) > 2)


def test_int8_model_compresses_to_less_than_half(onnx_fp32, quantized):
    """Its weights stand there as floats, but as short ones: a bundle carries both models."""
    assert len(zlib.compress(quantized.model)) < len(onnx_fp32) / 2


@pytest.mark.slow
def test_costly_layers_are_kept_in_float_and_named(onnx_fp32, quantized, windows):
    """Where the cosine is asked for that INT8 alone does not reach, the layers that cost most stay in float."""
    two = [type(windows[0])(wave=windows[0].wave[:2], log_mel=windows[0].log_mel[:2], label=windows[0].label[:2])]
    expected = runner_from_onnx(onnx_fp32, "fp32")(two[0].wave, two[0].log_mel).embedding

    def lowest(model: bytes) -> float:
        found = runner_from_onnx(model, "int8")(two[0].wave, two[0].log_mel).embedding
        return float(((expected * found).sum(axis=1) / np.linalg.norm(found, axis=1)).min())

    plain = lowest(quantize(onnx_fp32, lambda: iter(two)).model)
    wanted = 1.0 - 0.7 * (1.0 - plain)
    lines: list[str] = []
    better = quantize(onnx_fp32, lambda: iter(two), min_embedding_cosine=wanted, say=lines.append)
    assert lowest(better.model) >= wanted
    assert 0 < len(better.float_layers) < 20
    n_quantized = sum(node.op_type == "QuantizeLinear" for node in onnx.load_from_string(better.model).graph.node)
    n_before = sum(node.op_type == "QuantizeLinear" for node in onnx.load_from_string(quantized.model).graph.node)
    assert n_quantized < n_before
    assert any("measuring" in line for line in lines)


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
    with pytest.raises(EdgeAsdError, match=r"'STFT': 1.*expected opset 18"):
        check_operators(model)

"""A float32 ONNX model and real windows in, its INT8 model with explicit Q/DQ out, any of whose layers can be float."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from edge_asd.types import FloatArray
from export.float_layers import QUANTIZED_OPERATORS, with_float_layers
from export.half import with_half_layers
from export.onnx_model import check_operators, strip_notes
from export.short_weights import shorten_weights
from export.windows import Windows

# TensorRT takes neither integer biases nor zero points other than 0, and 8.6 wants Q and DQ ahead of float weights.
_OPTIONS = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False, "AddQDQPairToWeight": True}


class QuantizedNetwork:
    """A network whose every Conv, Add and Gemm but the last is in INT8, and the same with fewer of them.

    layers: names for people by name of the node, in the order of the network: the weight's where it has one.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self.layers = _layers(model)

    def draft(self, *, in_float: Collection[str]) -> bytes:
        """Serialized ONNX with these nodes in float32, to measure by: sooner made than `model`, but larger."""
        return bytes(with_float_layers(self._model, in_float).SerializeToString())

    def model(self, *, in_float: Collection[str]) -> bytes:
        """Serialized ONNX with these nodes in half precision, or in float32 where half would spoil them.

        Raises:
            EdgeAsdError: it holds what not every engine takes.
        """
        model = with_half_layers(with_float_layers(self._model, in_float), in_float)
        strip_notes(model)
        shorten_weights(model)
        check_operators(model)
        return bytes(model.SerializeToString())


def quantize(onnx_fp32: bytes, windows: Iterable[Windows]) -> QuantizedNetwork:
    """Quantize with the ranges that activations take on these windows: symmetric, weights per channel.

    The layers that give the network's outputs stay float: the product with the class weights takes no time, and 8 bits
    there would move every score, whatever the layers before it are.
    """
    with tempfile.TemporaryDirectory(prefix="edge-asd-export-") as folder:
        source, prepared, target = (Path(folder) / f"{name}.onnx" for name in ("source", "prepared", "quantized"))
        source.write_bytes(onnx_fp32)
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            _Reader(windows),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED_OPERATORS),
            nodes_to_exclude=_last_layers(onnx.load(prepared)),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            extra_options=_OPTIONS,
        )
        return QuantizedNetwork(onnx.load(target))


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """One window at a time, as ONNX Runtime asks for them."""

    def __init__(self, windows: Iterable[Windows]) -> None:
        self._feeds: Iterator[dict[str, FloatArray]] = (
            {"wave": batch.wave[row : row + 1], "log_mel": batch.log_mel[row : row + 1]}
            for batch in windows
            for row in range(len(batch.wave))
        )

    def get_next(self) -> dict[str, FloatArray] | None:
        return next(self._feeds, None)


def _last_layers(model: onnx.ModelProto) -> list[str]:
    outputs = {value.name for value in model.graph.output}
    return [node.name for node in model.graph.node if outputs & set(node.output)]


def _layers(full: onnx.ModelProto) -> dict[str, str]:
    weights = {initializer.name for initializer in full.graph.initializer}
    sources = {node.output[0]: node.input[0] for node in full.graph.node if node.op_type == "QuantizeLinear"}
    dequantized = {
        node.output[0]: sources[node.input[0]]
        for node in full.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in sources
    }
    layers = {}
    for node in full.graph.node:
        if node.op_type in QUANTIZED_OPERATORS and dequantized.keys() & set(node.input):
            weight = next((dequantized[name] for name in node.input if dequantized.get(name) in weights), None)
            layers[node.name] = weight.removesuffix(".weight") if weight else node.name
    return layers

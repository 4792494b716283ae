"""A float32 ONNX model and real windows in, its INT8 model with explicit Q/DQ out, and the layers kept in float."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from edge_asd.errors import EdgeAsdError
from edge_asd.types import FloatArray
from export.float_layers import QUANTIZED_OPERATORS, with_float_layers
from export.onnx_model import check_operators, strip_notes
from export.runners import Runner, runner_from_onnx
from export.windows import Windows

MIN_EMBEDDING_COSINE = 0.99
# TensorRT takes neither integer biases nor zero points other than 0, and 8.6 wants Q and DQ ahead of float weights.
_OPTIONS = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False, "AddQDQPairToWeight": True}
# How far a shortened weight may be from the middle of its integer, in steps: half a step is where it would round off.
_MAX_SHORTENING_STEPS = 0.3
_RANKING_WINDOWS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedModel:
    """model: serialized INT8 ONNX. float_layers: layers that would have cost too much accuracy, worst first."""

    model: bytes
    float_layers: tuple[str, ...]


def quantize(
    onnx_fp32: bytes,
    windows: Callable[[], Iterable[Windows]],
    *,
    min_embedding_cosine: float = MIN_EMBEDDING_COSINE,
    say: Callable[[str], None] = lambda _: None,
) -> QuantizedModel:
    """Quantize Conv, Add and Gemm; where that costs too much, keep the layers that cost most in float.

    Args:
        onnx_fp32: the model.
        windows: makes an iterator over the same real windows each time it is called.
        min_embedding_cosine: between the embeddings of both models, on every one of these windows.
        say: is told what takes long.

    Raises:
        EdgeAsdError: not even with all layers in float is the cosine reached.
    """
    full = _fully_quantized(onnx_fp32, windows())
    layers = _layers(full)
    expected = _embeddings(runner_from_onnx(onnx_fp32, "fp32"), windows())

    def cosine_of(model: bytes) -> FloatArray:
        return _cosine(expected, _embeddings(runner_from_onnx(model, "int8"), windows()))  # (N,)

    kept: list[str] = []
    ranking: list[str] = []
    while True:
        model = _finished(full, kept)
        cosine = cosine_of(model)
        say(f"INT8 with {len(kept)} of {len(layers)} layers in float: lowest embedding cosine {cosine.min():.5f}")
        if cosine.min() >= min_embedding_cosine:
            break
        if not ranking:
            say(f"that is below {min_embedding_cosine}: measuring what each layer costs")
            worst = np.argsort(cosine)[:_RANKING_WINDOWS]
            ranking = _ranking(full, layers, _taken(windows(), worst), expected[worst])
        if len(kept) == len(layers) - 1:
            raise EdgeAsdError(
                f"INT8 embeddings have cosine {cosine.min():.4f} to the float32 ones with all layers in float but "
                f"{layers[ranking[-1]]}; expected {min_embedding_cosine}; give more varied calibration clips"
            )
        kept.append(ranking[len(kept)])
    # A layer's cost alone is not its cost among others: some may have been for nothing.
    for node in kept[:-1]:
        fewer = [other for other in kept if other != node]
        smaller = _finished(full, fewer)
        if (least := cosine_of(smaller).min()) >= min_embedding_cosine:
            say(f"INT8 without {layers[node]} in float: lowest embedding cosine {least:.5f}")
            kept, model = fewer, smaller
    return QuantizedModel(model=model, float_layers=tuple(layers[node] for node in kept))


def _ranking(full: onnx.ModelProto, layers: dict[str, str], windows: Windows, expected: FloatArray) -> list[str]:
    """Nodes by what quantizing them alone costs, worst first."""
    costs: dict[str, float] = {}
    for node in layers:
        alone = with_float_layers(full, [other for other in layers if other != node])
        run = runner_from_onnx(alone.SerializeToString(), "int8")
        costs[node] = float((1.0 - _cosine(expected, _embeddings(run, [windows]))).max())
    return sorted(costs, key=lambda node: costs[node], reverse=True)


def _taken(windows: Iterable[Windows], rows: NDArray[np.intp]) -> Windows:
    """The windows at these places of all."""
    parts: dict[int, Windows] = {}
    start = 0
    for batch in windows:
        for row in rows[(rows >= start) & (rows < start + len(batch.wave))]:
            one = slice(row - start, row - start + 1)
            parts[int(row)] = Windows(wave=batch.wave[one], log_mel=batch.log_mel[one], label=batch.label[one])
        start += len(batch.wave)
    found = [parts[int(row)] for row in rows]
    return Windows(
        wave=np.concatenate([part.wave for part in found]),
        log_mel=np.concatenate([part.log_mel for part in found]),
        label=np.concatenate([part.label for part in found]),
    )


def _fully_quantized(onnx_fp32: bytes, windows: Iterable[Windows]) -> onnx.ModelProto:
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
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            extra_options=_OPTIONS,
        )
        return onnx.load(target)


def _finished(full: onnx.ModelProto, kept: Sequence[str]) -> bytes:
    model = with_float_layers(full, kept)
    strip_notes(model)
    _shorten_weights(model)
    check_operators(model)
    return bytes(model.SerializeToString())


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


def _layers(full: onnx.ModelProto) -> dict[str, str]:
    """Names for people of the quantized nodes, by node name: the weight's where it has one."""
    weights = {initializer.name for initializer in full.graph.initializer}
    quantized_weights = {
        node.output[0]: node.input[0].removesuffix(".weight")
        for node in full.graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] in weights
    }
    dequantized = {
        node.output[0]: quantized_weights[node.input[0]]
        for node in full.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in quantized_weights
    }
    return {
        node.name: next((dequantized[name] for name in node.input if name in dequantized), node.name)
        for node in full.graph.node
        if node.op_type in QUANTIZED_OPERATORS
    }


def _embeddings(run: Runner, windows: Iterable[Windows]) -> FloatArray:
    return np.concatenate([run(batch.wave, batch.log_mel).embedding for batch in windows])  # (N, 128)


def _cosine(expected: FloatArray, found: FloatArray) -> FloatArray:
    """Cosine (N,) of each embedding with the expected one."""
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    cosine: FloatArray = (expected * found).sum(axis=1) / lengths
    return cosine


def _shorten_weights(model: onnx.ModelProto) -> None:
    """Replace float weights ahead of a Q by the shortest floats that it rounds to the same integers.

    The network stays the same to the last bit, and the model compresses to less than half.
    """
    initializers = {initializer.name: initializer for initializer in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in initializers:
            weight = initializers[node.input[0]]
            values = numpy_helper.to_array(weight)
            step = numpy_helper.to_array(initializers[node.input[1]])
            if step.ndim:
                axis = next(attribute.i for attribute in node.attribute if attribute.name == "axis")
                step = np.expand_dims(step, tuple(other for other in range(values.ndim) if other != axis % values.ndim))
            weight.CopyFrom(numpy_helper.from_array(shortest_floats(values, step), weight.name))


def shortest_floats(values: FloatArray, step: FloatArray) -> FloatArray:
    """Floats with as few bits as may be that round to the same multiple, -128..127, of `step` as `values`."""
    integers: NDArray[np.float64] = np.clip(np.rint(values / step), -128, 127).astype(np.float64)
    exact = integers * step
    mantissa, exponent = np.frexp(exact)
    shortest: NDArray[Any] = exact.astype(np.float32)
    for bits in range(9, 0, -1):
        shorter = np.ldexp(np.rint(mantissa * 2**bits) / 2**bits, exponent)
        shortest = np.where(np.abs(shorter / step - integers) <= _MAX_SHORTENING_STEPS, shorter, shortest)
    return shortest.astype(np.float32)

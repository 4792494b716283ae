"""An ONNX model in, one whose body, or whose float layers, compute in half precision out, with the types in it."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_asd.errors import EdgeAsdError
from export.onnx_model import check_operators, strip_notes
from export.opset import lower_opset

# Layers of the body; all else (LayerNorm, the head's products, the norm of the embedding) stays float32.
HALF_OPERATORS = frozenset(
    {"Add", "Concat", "Conv", "Flatten", "Gather", "Identity", "LeakyRelu", "MaxPool", "PRelu", "ReduceMax", "Relu"}
    | {"Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
_SHAPE_OPERATORS = frozenset({"Concat", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_TYPE_BLIND_OPERATORS = frozenset({"Shape"})
_LARGEST_HALF = float(np.finfo(np.float16).max)


def half_from_fp32(onnx_fp32: bytes) -> bytes:
    """Write float16 into the model: weights and activations of the body, with casts around what stays float32.

    The first layer after each input stays float32 with what is ahead of it, since half precision would cost a quiet
    sound its waveform and a spectrogram in dB its last digits. Inputs and outputs stay float32. The model of an older
    bundle, of opset 18, comes out in 17.

    onnxruntime's own converter is no choice: it rounds the inputs to half even where the first layer is float32.

    Raises:
        EdgeAsdError: a weight is beyond half precision, or the result holds what not every engine takes.
    """
    model = onnx.load_from_string(onnx_fp32)
    lower_opset(model)
    model = _converted(model, lambda node, _conversion: node.op_type in HALF_OPERATORS)
    strip_notes(model)
    check_operators(model)
    return bytes(model.SerializeToString())


def with_half_layers(model: onnx.ModelProto, layers: Collection[str]) -> onnx.ModelProto:
    """The quantized model with the nodes of these names in half precision, and what follows them up to the next Q.

    What stays float32 in `half_from_fp32` stays so here. Q and DQ are float32, the only type that opset 17 has for
    them, so that layers in INT8 are as they were.

    Raises:
        EdgeAsdError: a weight is beyond half precision.
    """

    def is_half(node: onnx.NodeProto, conversion: _Conversion) -> bool:
        return node.op_type in HALF_OPERATORS and (node.name in layers or conversion.reads_half_alone(node))

    return _converted(model, is_half)


def _converted(model: onnx.ModelProto, wanted: Callable[[onnx.NodeProto, _Conversion], bool]) -> onnx.ModelProto:
    """A copy with the wanted nodes in half, but for the first layers."""
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    graph = model.graph
    first_layers = _first_layers(graph)
    conversion = _Conversion(graph)
    nodes = []
    for node in graph.node:
        half = node.name not in first_layers and conversion.makes_floats(node) and wanted(node, conversion)
        nodes += conversion.nodes_from(node, half=half)
    if conversion.is_half & {value.name for value in graph.output}:
        raise EdgeAsdError("the network's output comes out of its body; expected a norm in float32 ahead of it")
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    weights = [weight for weight in (*graph.initializer, *conversion.half_weights.values()) if weight.name in used]
    del graph.initializer[:]
    graph.initializer.extend(weights)
    return model


def _first_layers(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes from each input up to and with the first that does more than to reshape."""
    fresh = {value.name for value in graph.input}
    found = set()
    for node in graph.node:  # in the order in which they are computed
        if fresh & set(node.input):
            found.add(node.name)
            if node.op_type in _SHAPE_OPERATORS:
                fresh |= set(node.output)
    return found


class _Conversion:
    """Follows the graph, and knows of each tensor whether it is half by now.

    is_half: names of such tensors. half_weights: by the name of the float32 one.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.is_half: set[str] = set()
        self.half_weights: dict[str, TensorProto] = {}
        self._weights = {weight.name: weight for weight in graph.initializer if weight.data_type == TensorProto.FLOAT}
        values = (*graph.value_info, *graph.input, *graph.output)
        floats = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
        self._floats = floats | set(self._weights)
        self._casts: dict[tuple[str, bool], str] = {}

    def makes_floats(self, node: onnx.NodeProto) -> bool:
        """Whether its output is a float in the model as it came."""
        return node.output[0] in self._floats

    def reads_half_alone(self, node: onnx.NodeProto) -> bool:
        """Whether all floats that it reads and that are no weights are half by now."""
        activations = {name for name in node.input if name in self._floats} - self._weights.keys()
        return bool(activations) and activations <= self.is_half

    def nodes_from(self, node: onnx.NodeProto, *, half: bool) -> list[onnx.NodeProto]:
        """The node in its type, behind the casts that its inputs need."""
        made = []
        if node.op_type not in _TYPE_BLIND_OPERATORS:
            for place, name in enumerate(node.input):
                if name in self._weights and half:
                    node.input[place] = self._half_weight(name)
                elif name in self._floats and (name in self.is_half) != half and name not in self._weights:
                    if (name, half) not in self._casts:
                        self._casts[name, half] = f"{name}_{'half' if half else 'single'}"
                        made.append(self._cast(name, self._casts[name, half], half=half))
                    node.input[place] = self._casts[name, half]
        if half:
            self.is_half.update(node.output)
        return [*made, node]

    def _cast(self, name: str, to: str, *, half: bool) -> onnx.NodeProto:
        kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        return helper.make_node("Cast", [name], [to], name=f"cast_{to}", to=kind)

    def _half_weight(self, name: str) -> str:
        if name not in self.half_weights:
            values = numpy_helper.to_array(self._weights[name])
            if np.abs(values).max(initial=0.0) > _LARGEST_HALF:
                raise EdgeAsdError(
                    f"weight {name} reaches {np.abs(values).max():g}; expected at most {_LARGEST_HALF:g}, the largest "
                    "number of half precision; train with weight decay"
                )
            self.half_weights[name] = numpy_helper.from_array(values.astype(np.float16), f"{name}_half")
        return self.half_weights[name].name

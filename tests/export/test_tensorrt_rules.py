"""What the parsers of TensorRT 8.6 and 10.3 take: operators, types and constants of each network of a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from edge_asd.bundle import open_bundle
from export.half import half_from_fp32
from export.onnx_model import ALLOWED_OPERATORS, OPSET

EXAMPLE = next(iter(sorted((Path(__file__).parents[2] / "examples").glob("*/*.asd"))))
# Source: docs/operators.md of onnx-tensorrt at 8.6 (up to opset 17) and 10.3 (up to 20), where these stand in both.
OPSETS = range(9, 18)
OPERATORS = frozenset(
    {"Add", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "Conv", "DequantizeLinear", "Div", "Expand"}
    | {"Flatten", "Gather", "Gemm", "Identity", "LayerNormalization", "LeakyRelu", "MatMul", "MaxPool", "Mul", "PRelu"}
    | {"Pow", "QuantizeLinear", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Shape"}
    | {"Sigmoid", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze"}
)
MUST_BE_CONSTANT = {"Slice": (3,), "Squeeze": (1,), "Unsqueeze": (1,), "ReduceSum": (1,)}
TYPES = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.INT32, TensorProto.INT64}


@pytest.fixture(scope="module", params=["fp32", "fp16", "int8"])
def graph(request) -> onnx.GraphProto:
    """A network of the example, checked, with the type of every tensor."""
    bundle = open_bundle(EXAMPLE)
    fp32 = bundle.onnx_model("fp32")
    model = onnx.load_from_string(half_from_fp32(fp32) if request.param == "fp16" else bundle.onnx_model(request.param))
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
    return onnx.shape_inference.infer_shapes(model, strict_mode=True).graph


def test_opset_and_operators_are_those_of_the_parsers(graph):
    """The export's own list holds no more than the parsers have."""
    assert OPSET in OPSETS
    assert ALLOWED_OPERATORS <= OPERATORS
    assert {node.op_type for node in graph.node} <= ALLOWED_OPERATORS


def test_weights_and_axes_are_constants(graph):
    """A convolution's weight is an initializer, as it is or behind Q and DQ; so are axes; no pool gives indices."""
    initializers = {initializer.name for initializer in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type == "Conv":
            name = node.input[1]
            while name not in initializers and producers[name].op_type in {"DequantizeLinear", "QuantizeLinear"}:
                name = producers[name].input[0]
            assert name in initializers, node.name
        for place in MUST_BE_CONSTANT.get(node.op_type, ()):
            assert len(node.input) <= place or node.input[place] in initializers, node.name
        if node.op_type == "MaxPool":
            assert len(node.output) == 1


def test_types_are_those_that_the_parsers_have(graph):
    """Floats, half floats, and integers for shapes; no double, no strings, and no integer among the biases."""
    types = {initializer.data_type for initializer in graph.initializer}
    types |= {value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    assert types <= TYPES
    integers = {
        weight.name for weight in graph.initializer if weight.data_type in {TensorProto.INT8, TensorProto.INT32}
    }
    for node in graph.node:
        if node.op_type in {"Conv", "Gemm"}:
            assert not integers & set(node.input), node.name


def test_quantization_is_symmetric(graph):
    """Every zero point is there and 0, every scale a positive float, and each Q feeds DQs alone."""
    values = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    for node in graph.node:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            assert values[node.input[2]].dtype == np.int8
            assert not values[node.input[2]].any()
            assert (values[node.input[1]] > 0).all()
        if node.op_type == "QuantizeLinear":
            readers = {reader.op_type for reader in graph.node if node.output[0] in reader.input}
            assert readers == {"DequantizeLinear"}


def test_int8_leaves_little_in_float():
    """Of the example's multiply-adds: layers that half precision would spoil (decision 0010)."""
    model = onnx.load_from_string(open_bundle(EXAMPLE).onnx_model("int8"))
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    shapes = {each.name: tuple(each.dims) for each in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        shapes[value.name] = tuple(dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim)
    dequantized = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    counts = {True: [], False: []}
    for node in graph.node:
        if node.op_type in {"Conv", "Gemm"}:
            n_terms = np.prod(shapes[node.input[1]][1:])
            counts[set(node.input[:2]) <= dequantized].append(int(np.prod(shapes[node.output[0]]) * n_terms))
    assert [len(counts[True]), len(counts[False])] == [35, 2]
    assert sum(counts[False]) / sum(counts[True] + counts[False]) < 0.008

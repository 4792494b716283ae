"""The opset that TensorRT 8.6 reads, of models that torch exports in the next one."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_asd.errors import EdgeAsdError
from export.opset import EXPORTER_OPSET, OPSET, lower_opset


def reductions(*, axes_are_computed: bool = False) -> onnx.ModelProto:
    """Each reduction whose form differs, over its own axes, beside one whose form does not, in the exporter's opset."""
    value = helper.make_tensor_value_info
    axes = {"last": [-1], "maps": [2, 3], "rows": [1]}
    nodes = [
        helper.make_node("ReduceL2", ["wave", "last"], ["norm"], name="norm", keepdims=1),
        helper.make_node("ReduceMean", ["wave", "maps"], ["mean"], name="mean", noop_with_empty_axes=0),
        helper.make_node("ReduceMax", ["wave"], ["all"], name="all", keepdims=0),
        helper.make_node("ReduceSum", ["wave", "rows"], ["sum"], name="sum", keepdims=0),
        helper.make_node("Identity", ["last"], ["told"], name="told"),
    ]
    if axes_are_computed:
        nodes = [helper.make_node("Identity", ["rows"], ["which"], name="which"), *nodes]
        nodes[2].input[1] = "which"
    shapes = {"norm": ["batch", 3, 4, 1], "mean": ["batch", 3, 1, 1], "all": [], "sum": ["batch", 4, 5]}
    outputs = [value(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(
        nodes,
        "hand",
        [value("wave", TensorProto.FLOAT, ["batch", 3, 4, 5])],
        [*outputs, value("told", TensorProto.INT64, [1])],
        [numpy_helper.from_array(np.int64(each), name) for name, each in axes.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", EXPORTER_OPSET)], ir_version=9)


def said(model: onnx.ModelProto, wave: np.ndarray) -> list[np.ndarray]:
    """All that the model puts out."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"wave": wave})


def test_lowered_model_says_the_same_to_the_last_bit() -> None:
    """For one window and several; axes that nothing else reads are no constants any more."""
    model = reductions()
    lowered = reductions()
    lower_opset(lowered)
    onnx.checker.check_model(lowered, full_check=True)
    assert [opset.version for opset in lowered.opset_import] == [OPSET]
    assert {constant.name for constant in lowered.graph.initializer} == {"last", "rows"}
    for n_windows in (1, 3):
        wave = np.random.default_rng(n_windows).standard_normal((n_windows, 3, 4, 5)).astype(np.float32)
        for expected, found in zip(said(model, wave), said(lowered, wave), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_model_that_is_low_stays_as_it_is() -> None:
    """To call it twice does no harm."""
    once = reductions()
    lower_opset(once)
    twice = onnx.ModelProto()
    twice.CopyFrom(once)
    lower_opset(twice)
    assert twice == once


def test_computed_axes_are_refused_by_the_name_of_their_node() -> None:
    """An attribute can only hold what is known."""
    with pytest.raises(EdgeAsdError, match=r"axes of ReduceMean mean are computed \(which\)"):
        lower_opset(reductions(axes_are_computed=True))

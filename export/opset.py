"""An ONNX model of the opset that torch writes in, the same computation in the one that every TensorRT reads out."""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

from edge_asd.errors import EdgeAsdError

EXPORTER_OPSET = 18
"""The least that torch's exporter writes."""

OPSET = 17
"""The most that TensorRT 8.6 reads: JetPack 6.0. Of the next one's reductions it takes the shape wrongly in batches."""

_IR_VERSION = 8  # of that opset's release of ONNX
_REDUCTIONS = frozenset({"ReduceL2", "ReduceMax", "ReduceMean"})
"""Operators whose form is another in EXPORTER_OPSET: their axes are an input there, and an attribute before."""


def lower_opset(model: onnx.ModelProto) -> None:
    """Write the model in OPSET: nothing is computed otherwise, to the last bit. One that is in it stays as it is.

    Raises:
        EdgeAsdError: the axes of a reduction are computed.
    """
    if {opset.version for opset in model.opset_import if not opset.domain} != {EXPORTER_OPSET}:
        return
    constants = {initializer.name: initializer for initializer in model.graph.initializer}
    moved = set()
    for node in model.graph.node:
        if node.op_type in _REDUCTIONS:
            _drop_attribute(node, "noop_with_empty_axes")
            if len(node.input) > 1:
                axes = node.input.pop()
                if axes not in constants:
                    raise EdgeAsdError(
                        f"the axes of {node.op_type} {node.name} are computed ({axes}); expected constants, which "
                        f"opset {OPSET} wants; change the network so that its axes are fixed"
                    )
                node.attribute.append(helper.make_attribute("axes", numpy_helper.to_array(constants[axes]).tolist()))
                moved.add(axes)
    unused = moved.difference(*(node.input for node in model.graph.node))
    kept = [initializer for name, initializer in constants.items() if name not in unused]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    for opset in model.opset_import:
        if not opset.domain:
            opset.version = OPSET
    model.ir_version = _IR_VERSION


def _drop_attribute(node: onnx.NodeProto, name: str) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)

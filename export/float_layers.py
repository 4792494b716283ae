"""A quantized ONNX model and layers in, the same model with these layers in float out."""

from __future__ import annotations

from collections.abc import Collection

import onnx

QUANTIZED_OPERATORS = ("Conv", "Add", "Gemm")


def with_float_layers(model: onnx.ModelProto, kept: Collection[str]) -> onnx.ModelProto:
    """Take away the Q/DQ pairs that only the nodes named in `kept` have use for.

    A pair stays where it feeds a node that is still quantized, or holds the output of one.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    nodes = changed.graph.node
    producers = {output: node for node in nodes for output in node.output}
    quantized = {node.name for node in nodes if node.op_type in QUANTIZED_OPERATORS and node.name not in kept}
    for node in nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") or node.name in quantized:
            continue
        for place, name in enumerate(node.input):
            source = _source_of_pair(name, producers)
            if source is not None and (source not in producers or producers[source].name not in quantized):
                node.input[place] = source
    _drop_unused(changed.graph)
    return changed


def _source_of_pair(name: str, producers: dict[str, onnx.NodeProto]) -> str | None:
    """What a Q and DQ stand behind, or None where `name` comes from no such pair."""
    dequantize = producers.get(name)
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return None
    quantize = producers.get(dequantize.input[0])
    return str(quantize.input[0]) if quantize is not None and quantize.op_type == "QuantizeLinear" else None


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Drop nodes and initializers that nothing leads to an output of the graph from."""
    used = {value.name for value in graph.output}
    nodes = []
    for node in reversed(graph.node):  # in topological order, as ONNX demands
        if used.intersection(node.output):
            used.update(node.input)
            nodes.append(node)
    initializers = [initializer for initializer in graph.initializer if initializer.name in used]
    for field, members in (("node", nodes[::-1]), ("initializer", initializers)):
        copies = [type(member).FromString(member.SerializeToString()) for member in members]
        graph.ClearField(field)
        getattr(graph, field).extend(copies)

"""A serialized ONNX network in; nothing out, unless it claims what no engine should be handed.

Only the protobuf around the network is read: names, shapes and where its weights are. ONNX lets a network name files
whose bytes become its weights, nest graphs, bring functions of its own and claim tensors of any size. None of these is
needed here, so none is taken.

Source of the field numbers: onnx.proto of ONNX 1.17 (IR version 10), wire format of Protocol Buffers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from edge_asd.bundle.manifest import TensorSpec
from edge_asd.errors import BundleError

MAX_FIELDS = 500_000
MAX_NODES = 10_000
# Of one tensor between two nodes, for one window: a hundred times the largest of the published networks.
MAX_ELEMENTS = 2**28
MAX_DIMENSIONS = 8

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
_FLOAT = 1  # TensorProto.DataType
_DOMAINS = (b"", b"ai.onnx")
# The smallest elements that ONNX has take half a byte.
_ELEMENTS_PER_BYTE = 2
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_VALUE, _GRAPH_SPARSE = 1, 5, 11, 12, 13, 15
_NODE_ATTRIBUTE, _NODE_DOMAIN = 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS, _ATTRIBUTE_REFUSED = 5, 10, {6: "a graph", 11: "graphs", 22: "a sparse tensor",
                                                                   23: "sparse tensors"}  # fmt: skip
_TENSOR_DIMS, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 1, 13, 14


def check_onnx(model: bytes, *, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], where: str) -> None:
    """Make sure that a network is what the manifest says and nothing besides, ahead of any engine.

    Raises:
        BundleError: it is no ONNX, its inputs or outputs are others, its weights are elsewhere or not as many as it
            claims, or it holds what these networks have no use for.
    """
    try:
        _Check(inputs, outputs).model(memoryview(model))
    except _RefusedError as error:
        raise BundleError(
            f"{where}: {error}; expected the network that the exporter wrote; this is not a bundle to trust: get it "
            "again from its source, or export it again"
        ) from error


class _RefusedError(Exception):
    """What is wrong with the network, in words."""


class _Check:
    """Walks through the messages of one network, counting fields over all of it."""

    def __init__(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        self._expected = {"inputs": inputs, "outputs": outputs}
        self._fields_left = MAX_FIELDS

    def model(self, data: memoryview) -> None:
        graphs = []
        for number, value in self._fields(data):
            if number == _MODEL_GRAPH:
                graphs.append(_message(value))
            elif number in {_MODEL_TRAINING, _MODEL_FUNCTIONS}:
                raise _RefusedError("the network brings functions of its own or training information")
        if len(graphs) != 1:
            raise _RefusedError(f"the network has {len(graphs)} graphs")
        self._graph(graphs[0])

    def _graph(self, data: memoryview) -> None:
        found: dict[str, list[str]] = {"inputs": [], "outputs": []}
        n_nodes = 0
        for number, value in self._fields(data):
            if number == _GRAPH_NODE:
                n_nodes += 1
                self._node(_message(value))
            elif number == _GRAPH_INITIALIZER:
                self._tensor(_message(value))
            elif number == _GRAPH_INPUT:
                found["inputs"].append(self._value(_message(value)))
            elif number == _GRAPH_OUTPUT:
                found["outputs"].append(self._value(_message(value)))
            elif number == _GRAPH_VALUE:
                self._value(_message(value))
            elif number == _GRAPH_SPARSE:
                raise _RefusedError("the network holds sparse weights")
        if n_nodes > MAX_NODES:
            raise _RefusedError(f"the network has {n_nodes} nodes, more than {MAX_NODES}")
        for kind, specs in self._expected.items():
            expected = [_spec_text(spec) for spec in specs]
            if sorted(found[kind]) != sorted(expected):
                raise _RefusedError(
                    f"the network's {kind} are {', '.join(found[kind]) or 'none'}, the manifest's {', '.join(expected)}"
                )

    def _node(self, data: memoryview) -> None:
        for number, value in self._fields(data):
            if number == _NODE_DOMAIN and bytes(_message(value)) not in _DOMAINS:
                raise _RefusedError(f"a node is of the foreign operator set {bytes(_message(value))[:60]!r}")
            if number != _NODE_ATTRIBUTE:
                continue
            for attribute, content in self._fields(_message(value)):
                if attribute in _ATTRIBUTE_REFUSED:
                    raise _RefusedError(f"a node holds {_ATTRIBUTE_REFUSED[attribute]}")
                if attribute in {_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS}:
                    self._tensor(_message(content))

    def _tensor(self, data: memoryview) -> None:
        shape: list[int] = []
        for number, value in self._fields(data):
            if number == _TENSOR_DIMS:
                shape += [value] if isinstance(value, int) else _varints(value)
                if len(shape) > MAX_DIMENSIONS:
                    raise _RefusedError(f"a tensor claims more than {MAX_DIMENSIONS} dimensions")
            elif number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value != 0):
                raise _RefusedError("weights of the network are in a file outside it")
        if math.prod(shape) > _ELEMENTS_PER_BYTE * len(data):
            raise _RefusedError(f"a tensor of {len(data)} bytes claims the shape {_shape_text(shape)}")

    def _value(self, data: memoryview) -> str:
        """Name and shape of a ValueInfoProto as text, as NAME (batch, 3)."""
        name, element, shape = "", _FLOAT, None
        for number, value in self._fields(data):
            if number == 1:
                name = bytes(_message(value)).decode("utf-8", "replace")[:60]
            elif number == 2:
                element, shape = self._type(_message(value))
        sizes = [size for size in shape or [] if isinstance(size, int)]
        if len(sizes) > MAX_DIMENSIONS or math.prod(sizes) > MAX_ELEMENTS:
            raise _RefusedError(f"{name!r} has the shape {_shape_text(shape or [])}")
        return f"{name} {'' if element == _FLOAT else f'of type {element} '}{_shape_text(shape or [])}"

    def _type(self, data: memoryview) -> tuple[int, list[int | str] | None]:
        """Element type and shape of a TypeProto that is a tensor; sizes without a number are `batch`."""
        element, shape = 0, None
        for number, tensor in self._fields(data):
            if number != 1:
                continue
            for part, value in self._fields(_message(tensor)):
                if part == 1 and isinstance(value, int):
                    element = value
                elif part == 2:
                    shape = [self._size(_message(size)) for field, size in self._fields(_message(value)) if field == 1]
        return element, shape

    def _size(self, data: memoryview) -> int | str:
        sizes = [value for number, value in self._fields(data) if number == 1 and isinstance(value, int)]
        return sizes[-1] if sizes else "batch"

    def _fields(self, data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        """Each field of a message as its number and value; fixed-size numbers as bytes."""
        position = 0
        while position < len(data):
            self._fields_left -= 1
            if self._fields_left < 0:
                raise _RefusedError(f"the network has more than {MAX_FIELDS} fields")
            tag, position = _varint(data, position)
            number, wire = tag >> 3, tag & 7
            if wire == _VARINT:
                value, position = _varint(data, position)
                yield number, value
                continue
            if wire == _BYTES:
                size, position = _varint(data, position)
            elif wire in {_FIXED32, _FIXED64}:
                size = 4 if wire == _FIXED32 else 8
            else:
                raise _RefusedError(f"the bytes are no ONNX network (wire type {wire})")
            if number == 0 or size > len(data) - position:
                raise _RefusedError("the bytes are no ONNX network (a field goes beyond its end)")
            yield number, data[position : position + size]
            position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        if position + index >= len(data):
            break
        byte = data[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise _RefusedError("the bytes are no ONNX network (a number without end)")


def _varints(data: memoryview) -> list[int]:
    values: list[int] = []
    position = 0
    while position < len(data) and len(values) <= MAX_DIMENSIONS:
        value, position = _varint(data, position)
        values.append(value)
    return values


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _RefusedError("the bytes are no ONNX network (a number in the place of a message)")
    return value


def _spec_text(spec: TensorSpec) -> str:
    return f"{spec.name} {_shape_text(spec.shape)}"


def _shape_text(shape: Sequence[int | str]) -> str:
    return f"({', '.join(str(size) for size in shape[:8])}{', ...' if len(shape) > 8 else ''})"

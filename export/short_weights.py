"""A quantized ONNX model in, the same one with float weights that compress to less than half, to the last bit, out."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edge_asd.types import FloatArray

# How far a shortened weight may be from the middle of its integer, in steps: half a step is where it would round off.
_MAX_SHORTENING_STEPS = 0.3


def shorten_weights(model: onnx.ModelProto) -> None:
    """Replace float weights ahead of a Q by the shortest floats that it rounds to the same integers."""
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

"""A trained network in, its float32 ONNX model out, of operators that every engine takes."""

from __future__ import annotations

import logging
import warnings
from collections import Counter

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from edge_asd.bundle import tensor_specs
from edge_asd.errors import EdgeAsdError
from edge_asd.types import FeatureSpec
from export.opset import EXPORTER_OPSET, OPSET, lower_opset
from train.network import FEATURE_MAP_SIZE, Network

MANTISSA_BITS = 16
# Operators that TensorRT 8.6 to 11, OpenVINO and ONNX Runtime all take at this opset, with Q/DQ around them.
# Absent on purpose: STFT (TensorRT from 10.5), adaptive pools (no ONNX operator), Loop, If, and what depends on values.
ALLOWED_OPERATORS = frozenset(
    {"Add", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "Conv", "DequantizeLinear", "Div", "Expand"}
    | {"Flatten", "Gather", "Gemm", "Identity", "LayerNormalization", "LeakyRelu", "MatMul", "MaxPool", "Mul", "PRelu"}
    | {"Pow", "QuantizeLinear", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Shape"}
    | {"Sigmoid", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze"}
)


class _WithFeatureMap(Network):
    """The network with a third output, which devices enrol machines by."""

    def forward(self, wave: Tensor, log_mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]  # more
        """Embed windows; see `Network.with_feature_map`."""
        return self.with_feature_map(wave, log_mel)


def onnx_from_network(network: Network, feature_spec: FeatureSpec) -> bytes:
    """Export a network in evaluation mode, with a dynamic batch, in opset 17.

    Inputs are wave and log_mel; outputs embedding, cosine and feature_map, as of `Network.with_feature_map`.

    Weights lie inside the model, rounded to 16 bits of mantissa (a relative 8e-6), which makes the compressed model a
    sixth smaller; names of source files, which the exporter notes at every node, are left out.

    Raises:
        EdgeAsdError: the exporter made an operator, opset or shape that not every engine takes.
    """
    inputs, outputs = tensor_specs(feature_spec, network.spec.n_classes, feature_map_size=FEATURE_MAP_SIZE)
    exported = _WithFeatureMap(network.spec, feature_spec)
    exported.load_state_dict(network.state_dict())
    # A batch of two: an axis of size 1 would be taken for a constant.
    example = tuple(torch.zeros(2, *(size for size in spec.shape if size != "batch")) for spec in inputs)
    batch = torch.export.Dim("batch", min=1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of torchvision, which nothing here needs
    with warnings.catch_warnings():
        # torch's own use of a deprecated class, and the name "batch" that two inputs share.
        warnings.filterwarnings("ignore", category=FutureWarning, module="copyreg")
        warnings.filterwarnings("ignore", message="# The axis name")
        program = torch.onnx.export(
            exported.eval(),
            example,
            dynamo=True,
            opset_version=EXPORTER_OPSET,
            input_names=[spec.name for spec in inputs],
            output_names=[spec.name for spec in outputs],
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            external_data=False,
            verbose=False,
        )
    if program is None:  # torch returns None on its path to a file alone
        raise EdgeAsdError("torch.onnx.export returned no model; expected one in memory; use the torch of setup.cfg")
    model = program.model_proto
    strip_notes(model)
    lower_opset(model)
    _round_weights(model)
    check_operators(model)
    found = {value.name: _shape(value) for value in (*model.graph.input, *model.graph.output)}
    expected = {spec.name: spec.shape for spec in (*inputs, *outputs)}
    if found != expected:
        raise EdgeAsdError(f"the ONNX model has tensors {found}; expected {expected}; use the torch of setup.cfg")
    return bytes(model.SerializeToString())


def check_operators(model: onnx.ModelProto) -> None:
    """Refuse what one of the engines could not run.

    Raises:
        EdgeAsdError: names the operators and how often each stands there.
    """
    opsets = {opset.domain: opset.version for opset in model.opset_import if opset.version}
    strangers = Counter(
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        for node in model.graph.node
        if node.domain or node.op_type not in ALLOWED_OPERATORS
    )
    if strangers or opsets.get("") != OPSET or model.functions:
        raise EdgeAsdError(
            f"the ONNX model has opsets {opsets}, {len(model.functions)} functions and operators beyond those that "
            f"every engine takes: {dict(strangers) or 'none'}; expected opset {OPSET} and only "
            f"{', '.join(sorted(ALLOWED_OPERATORS))}; change the network so that it exports to these"
        )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise EdgeAsdError(
            f"the ONNX model is not of its opset {OPSET} ({str(error).splitlines()[0]}); expected operators in the "
            "form of that opset; change the network so that it exports to these"
        ) from error


def strip_notes(model: onnx.ModelProto) -> None:
    """Drop what no engine reads: stack traces, source paths, inferred shapes inside the graph, operator sets unused."""
    used = {node.domain for node in model.graph.node}
    opsets = [opset for opset in model.opset_import if opset.domain in used]
    model.ClearField("opset_import")
    model.opset_import.extend(opsets)
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    model.doc_string = ""
    model.graph.doc_string = ""


def _round_weights(model: onnx.ModelProto) -> None:
    for weight in model.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT:
            # frexp's mantissa lies in 0.5..1 and so holds the bit that float32 leaves unsaid.
            mantissa, exponent = np.frexp(numpy_helper.to_array(weight))
            step = np.float32(2.0 ** (MANTISSA_BITS + 1))
            rounded = np.ldexp(np.rint(mantissa * step) / step, exponent)
            weight.CopyFrom(numpy_helper.from_array(rounded, weight.name))


def _shape(value: onnx.ValueInfoProto) -> tuple[str | int, ...]:
    return tuple(size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim)

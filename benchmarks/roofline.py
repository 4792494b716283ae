"""A bundle in, the operations and bytes of one window and the least time that they take on each board, out.

`python -m benchmarks.roofline [--bundle FILE]` prints what is computed from counts and makers' figures: a projection.
`benchmarks.latency --gpu` sets the same bounds, with ceilings that it measured, beside what it measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from rich.console import Console
from rich.table import Table

from edge_asd.bundle import Precision, open_bundle
from edge_asd.errors import EdgeAsdError
from edge_asd.features import mel_filters
from edge_asd.types import FeatureSpec

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "bldc_motor" / "bldc-motor-1.0.0.asd"
PROJECTION = "Least time of one window, ms: a projection from counts and data sheets, measured on no board"
_FLOAT_BYTES = 4
_BYTES: Mapping[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 1}
_PRODUCTS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """operations: additions and multiplications. n_bytes: read from or written to the GPU's memory."""

    operations: float
    n_bytes: float

    def bound_ms(self, ceilings: Ceilings, precision: Precision = "fp32") -> float:
        """The longer of the times that operations and bytes take at least, in ms."""
        rate = ceilings.operations_per_s.get(precision)
        compute_s = self.operations / rate if rate else 0.0
        return 1e3 * max(compute_s, self.n_bytes / ceilings.bytes_per_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """What a GPU does at best. operations_per_s: by precision; one that is not known is left out of a bound."""

    bytes_per_s: float
    operations_per_s: Mapping[Precision, float]


# Source: NVIDIA's data sheets of the modules (Orin Nano 8GB Super, Orin NX 16GB at 25 W, AGX Orin 64GB, Jetson T5000).
# Dense rates at the highest clock; fp32 is cores * clock * 2 and has no tensor cores. INT8 and FP16 of T5000 are not
# given dense.
BOARDS: Mapping[str, Ceilings] = {
    "Orin Nano": Ceilings(
        bytes_per_s=102e9, operations_per_s={"fp32": 1024 * 1.02e9 * 2, "fp16": 17e12, "int8": 33e12}
    ),
    "Orin NX": Ceilings(bytes_per_s=102e9, operations_per_s={"fp32": 1024 * 0.918e9 * 2, "fp16": 15e12, "int8": 30e12}),
    "AGX Orin": Ceilings(bytes_per_s=205e9, operations_per_s={"fp32": 2048 * 1.3e9 * 2, "fp16": 43e12, "int8": 85e12}),
    "Thor": Ceilings(bytes_per_s=273e9, operations_per_s={"fp32": 2560 * 1.57e9 * 2}),
}


def front_end_work(spec: FeatureSpec) -> Work:
    """Of the log-mel kernel for one window, frames in float32 alone: each sample read once, each result written once.

    Operations are those of edge_asd/cuda/logmel.cu, line by line.
    """
    half = spec.n_fft // 2
    n_radix_4, n_radix_2 = divmod(half.bit_length() - 1, 2)
    butterflies = n_radix_4 * (half // 4) * (3 * 6 + 8 * 2) + n_radix_2 * (half // 2) * (6 + 2 * 2)
    real_split = (half // 2 + 1) * (2 * 2 + 2 * 2 + 6 + 2 * 2 + 2 * 3 + 2)
    mel = 3 * int(np.count_nonzero(mel_filters(spec))) + 4 * spec.n_mels
    operations = spec.n_frames * (spec.n_fft + butterflies + real_split + mel)
    return Work(
        operations=float(operations),
        n_bytes=float(_FLOAT_BYTES * (spec.window_samples + spec.n_mels * spec.n_frames)),
    )


def network_work(onnx_fp32: bytes, precision: Precision) -> Work:
    """Of the network for one window, as if all of it had that precision.

    Operations are those of convolutions and matrix products. Bytes are what these read and write, weights included:
    what lies between them is taken for a part of them, as engines make it.
    """
    model = onnx.load_from_string(onnx_fp32)
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes: dict[str, tuple[int, ...]] = {each.name: tuple(each.dims) for each in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        shapes[value.name] = tuple(dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim)
    operations = n_elements = 0
    for node in graph.node:
        if node.op_type not in _PRODUCTS:
            continue
        out = int(np.prod(shapes[node.output[0]]))
        weights = shapes[node.input[1]]
        if node.op_type == "Conv":
            n_terms = int(np.prod(weights[1:]))  # channels of a group times the kernel
        else:
            is_transposed = any(each.name == "transB" and each.i for each in node.attribute)
            n_terms = weights[-1] if is_transposed else weights[-2]
        operations += 2 * out * n_terms
        n_elements += out + sum(int(np.prod(shapes[name])) for name in node.input[:2])
    return Work(operations=float(operations), n_bytes=float(n_elements * _BYTES[precision]))


def projection(bundle_path: Path, ceilings: Mapping[str, Ceilings] | None = None) -> dict[str, dict[str, float]]:
    """Least time of one window on each board, in ms: `front_end`, and front end and network of each precision.

    Args:
        bundle_path: of the model.
        ceilings: by board; by default the makers' figures.
    """
    bundle = open_bundle(bundle_path)
    front_end = front_end_work(bundle.manifest.feature_spec)
    networks = {precision: network_work(bundle.onnx_model("fp32"), precision) for precision in _BYTES}
    return {
        board: {
            "front_end_ms": front_end.bound_ms(each),
            **{
                f"{precision}_ms": front_end.bound_ms(each) + network.bound_ms(each, precision)
                for precision, network in networks.items()
                # Without a known rate of operations there is no bound worth the name.
                if precision in each.operations_per_s
            },
        }
        for board, each in (BOARDS if ceilings is None else ceilings).items()
    }


def at_share_reached(
    rows: Mapping[str, Mapping[str, float]], bound_ms: Mapping[str, float], measured_ms: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """The projection for boards that come as near to their bound as the GPU that was measured came to its own."""
    return {
        board: {
            name: least_ms * measured_ms[name] / bound_ms[name]
            for name, least_ms in row.items()
            if name in bound_ms and name in measured_ms
        }
        for board, row in rows.items()
    }


def print_projection(title: str, rows: Mapping[str, Mapping[str, float]], console: Console) -> None:
    """Print one row a board."""
    table = Table(title=title)
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    for column in ("board", *columns):
        table.add_column(column, justify="left" if column == "board" else "right")
    for board, row in rows.items():
        table.add_row(board, *(f"{row[name]:.4f}" if name in row else "not known" for name in columns))
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print counts and projection."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.roofline", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--bundle", type=Path, default=EXAMPLE, help="model to count (default: the example)")
    options = parser.parse_args(arguments)
    try:
        bundle = open_bundle(options.bundle)
    except EdgeAsdError as error:
        parser.exit(error.exit_code, f"{parser.prog}: {error}\n")
    console = Console(width=None if sys.stdout.isatty() else 120)
    for name, work in (
        ("front end", front_end_work(bundle.manifest.feature_spec)),
        ("network, int8", network_work(bundle.onnx_model("fp32"), "int8")),
    ):
        console.print(f"{name}: {work.operations / 1e6:.1f} million operations, {work.n_bytes / 1e6:.2f} MB a window")
    print_projection(PROJECTION, projection(options.bundle), console)
    return 0


if __name__ == "__main__":
    sys.exit(main())

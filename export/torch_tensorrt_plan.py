"""A trained network in, the engine that torch-tensorrt makes of it without ONNX, for one window, out."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from edge_asd.bundle import TensorSpec
from edge_asd.errors import UnavailableError
from train.network import Network

OUTPUT_NAME = "output{}"
"""What torch-tensorrt calls a module's outputs, by their place. Source: TRTInterpreter of torch-tensorrt 2.13."""


def plan_from_network(network: Network, inputs: Sequence[TensorSpec]) -> bytes:
    """Convert in float32, all of it or nothing; takes minutes.

    Raises:
        UnavailableError: torch-tensorrt is not here, has no GPU, or cannot convert the network.
    """
    try:
        import torch_tensorrt  # noqa: PLC0415 - an extra of its own, which wants NVIDIA's libraries of 2 GB
    except Exception as error:  # it raises plain Exception where TensorRT's libraries are missing
        raise UnavailableError(
            f"torch-tensorrt cannot be imported ({error}); expected a workstation with CUDA; install it there: "
            "pip install 'edge-asd[torch-tensorrt]'"
        ) from error
    if not torch.cuda.is_available():
        raise UnavailableError(
            f"torch {torch.__version__} sees no GPU, which torch-tensorrt wants; expected torch for CUDA and its driver"
        )
    example = tuple(torch.zeros(1, *(int(size) for size in spec.shape[1:])).cuda() for spec in inputs)
    # On the GPU and back: the network is also the reference on the CPU.
    try:
        program = torch.export.export(network.cuda().eval(), example)
        plan = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
            program, arg_inputs=list(example), require_full_compilation=True, min_block_size=1, disable_tf32=True
        )
    except Exception as error:  # whatever stops a foreign converter is the answer here
        reason = next(iter(str(error).splitlines()), "") or repr(error)
        raise UnavailableError(
            f"torch-tensorrt {torch_tensorrt.__version__} cannot convert the network ({reason}); "
            "expected the versions of setup.cfg; the engine by ONNX does not need it"
        ) from error
    finally:
        network.cpu()
    return bytes(plan)

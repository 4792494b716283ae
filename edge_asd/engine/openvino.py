"""A serialized ONNX network in, its outputs for waves and log-mels out, by OpenVINO on the CPU."""

from __future__ import annotations

import sys
from dataclasses import fields
from types import TracebackType
from typing import Any

import numpy as np

from edge_asd.bundle import Precision
from edge_asd.types import EngineOutputs, FloatArray

# OpenVINO reports each model that it reads to its makers, from a fork of this process, where this package is found.
# It is made not to be: a device tells nobody of itself but its broker, and a fork among threads may hang.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # how Python keeps a module from being imported

import openvino  # noqa: E402 - only now

# One for all engines, for good: to load OpenVINO's code for CPUs gives the thread another stack for its signals, and to
# unload it frees that stack. Where several came and went, not in turn, a freed one may stay in use, and the next signal
# then ends the process (2026.4).
_CORE = openvino.Core()


class OpenVinoEngine:
    """An engine (see `edge_asd.engine.Engine`) compiled for one window at a time, the device's case.

    Args:
        model: serialized ONNX.
        precision: of that model.
        threads: that OpenVINO computes with; 0 is one for each core.

    Raises:
        RuntimeError: OpenVINO cannot read or compile the model.
    """

    name = "openvino"

    def __init__(self, model: bytes, *, precision: Precision, threads: int) -> None:
        self.precision = precision
        network = _CORE.read_model(model)
        # Fixed shapes: a tenth faster than the ONNX file's free batch.
        network.reshape({tensor.any_name: [1, *_fixed_shape(tensor)] for tensor in network.inputs})
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # By default OpenVINO takes bfloat16 where the CPU has it: scores would then depend on the CPU.
            "INFERENCE_PRECISION_HINT": "f32",
            # Its fused subgraphs ("snippets") give NaN on one thread with the INT8 network (2026.4); none is slower.
            "SNIPPETS_MODE": "DISABLE",
        }
        # Without wave branches the network has no use for the wave, and OpenVINO drops that input.
        self._input_names = frozenset(tensor.any_name for tensor in network.inputs)
        names = {name for tensor in network.outputs for name in tensor.names}
        self._output_names = [field.name for field in fields(EngineOutputs) if field.name in names]
        self._request: Any = _CORE.compile_model(network, "CPU", settings).create_infer_request()

    def infer(self, wave: FloatArray, log_mel: FloatArray) -> EngineOutputs:
        """Outputs, owned by the caller, for wave (B, window_samples) and log_mel (B, n_mels, n_frames), float32."""
        outputs = []
        for index in range(len(wave)):
            one = slice(index, index + 1)
            window = {"wave": np.ascontiguousarray(wave[one]), "log_mel": np.ascontiguousarray(log_mel[one])}
            used = {name: array for name, array in window.items() if name in self._input_names}
            self._request.infer(used, share_inputs=True)
            found = {name: self._request.get_tensor(name).data.copy() for name in self._output_names}
            outputs.append(EngineOutputs(**found))
        return EngineOutputs.joined(outputs)

    def close(self) -> None:
        """Release the network; a second call does nothing."""
        self._request = None

    def __enter__(self) -> OpenVinoEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _fixed_shape(tensor: Any) -> list[int]:
    """All of a tensor's shape but the batch."""
    return [dimension.get_length() for dimension in list(tensor.partial_shape)[1:]]

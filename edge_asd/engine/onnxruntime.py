"""A serialized ONNX network in, its outputs for waves and log-mels out, by ONNX Runtime on the CPU."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import onnxruntime

from edge_asd.bundle import Precision
from edge_asd.types import EngineOutputs, FloatArray

_ERRORS_ONLY = 3


class OnnxRuntimeEngine:
    """An engine (see `edge_asd.engine.Engine`) for any batch.

    Args:
        model: serialized ONNX.
        precision: of that model.
        threads: that ONNX Runtime computes with; 0 is one for each core.

    Raises:
        Exception: ONNX Runtime cannot read or run the model; its errors share no narrower class.
    """

    name = "onnxruntime"

    def __init__(self, model: bytes, *, precision: Precision, threads: int) -> None:
        self.precision = precision
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        # Threads that spin after each run burn a core between windows for nothing.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._output_names = [tensor.name for tensor in self._session.get_outputs()]  # not all have a feature_map

    def infer(self, wave: FloatArray, log_mel: FloatArray) -> EngineOutputs:
        """Outputs, owned by the caller, for wave (B, window_samples) and log_mel (B, n_mels, n_frames), float32."""
        found = self._session.run(self._output_names, {"wave": wave, "log_mel": log_mel})
        return EngineOutputs(**dict(zip(self._output_names, found, strict=True)))

    def close(self) -> None:
        """Release the network; a second call does nothing."""
        self._session = None

    def __enter__(self) -> OnnxRuntimeEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

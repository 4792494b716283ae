"""A serialized TensorRT engine for one window in, a function out that runs it on windows on this machine's GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_asd.bundle import TensorSpec
from edge_asd.cuda import Gpu
from edge_asd.engine.tensorrt.contexts import Network
from edge_asd.engine.tensorrt.library import check_driver, make_object
from edge_asd.errors import UnavailableError
from edge_asd.types import EngineOutputs, FloatArray


class PlanRunner:
    """A Runner (see `export.runners`) of one engine; the GPU's context must be current.

    Args:
        trt: the tensorrt module.
        gpu: whose memory it takes until that is closed.
        plan: the serialized engine, for a batch of one.
        tensors: of the network, by their names in the engine; first wave, log_mel, embedding and cosine.

    Raises:
        UnavailableError: TensorRT cannot start, or refuses the engine, or it has other tensors.
        CudaError: the GPU's memory is exhausted.
    """

    def __init__(self, trt: Any, gpu: Gpu, *, plan: bytes, tensors: Mapping[str, TensorSpec]) -> None:
        self._gpu = gpu
        runtime = make_object(trt, trt.Runtime)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            check_driver(trt)
            raise UnavailableError(
                f"TensorRT {trt.__version__} refuses an engine that was built just now; its reason stands in the log "
                "above; expected one TensorRT in this environment; keep but one"
            )
        found = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        if not set(found) <= set(tensors):
            raise UnavailableError(f"the engine has tensors {', '.join(found)}; expected {', '.join(tensors)}")
        self._buffers = {name: _floats(gpu, spec) for name, spec in tensors.items()}
        self._addresses = {name: gpu.allocate(buffer.nbytes, name) for name, buffer in self._buffers.items()}
        self._wave, self._log_mel, self._embedding, self._cosine = list(tensors)[:4]
        self._network = Network(trt, runtime, engine, gpu, batch_sizes=(1,), addresses=self._addresses)

    def __call__(self, wave: FloatArray, log_mel: FloatArray) -> EngineOutputs:
        """Outputs, owned by the caller, for wave (B, window_samples) and log_mel (B, n_mels, n_frames), float32."""
        embedding, cosine = [], []
        for one_wave, one_log_mel in zip(wave, log_mel, strict=True):
            for name, values in ((self._wave, one_wave), (self._log_mel, one_log_mel)):
                self._buffers[name][0] = values
                self._gpu.upload(self._addresses[name], self._buffers[name])
            self._network.put(1)
            for name in (self._embedding, self._cosine):
                self._gpu.download(self._buffers[name], self._addresses[name])
            self._gpu.synchronize()
            embedding.append(self._buffers[self._embedding].copy())
            cosine.append(self._buffers[self._cosine].copy())
        return EngineOutputs(embedding=np.concatenate(embedding), cosine=np.concatenate(cosine))

    def close(self) -> None:
        """Release the engine, ahead of the GPU."""
        self._network.close()


def _floats(gpu: Gpu, spec: TensorSpec) -> FloatArray:
    shape = (1, *(int(size) for size in spec.shape[1:]))
    floats: FloatArray = gpu.pinned(4 * int(np.prod(shape)), spec.name).view(np.float32).reshape(shape)
    return floats

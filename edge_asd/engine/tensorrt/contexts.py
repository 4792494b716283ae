"""A serialized engine and the addresses of its tensors in, the network, to be enqueued in any batch size, out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from edge_asd.bundle import TensorSpec
from edge_asd.cuda import CudaError, Gpu
from edge_asd.engine.tensorrt.library import check_driver
from edge_asd.engine.tensorrt.release import released_on_error
from edge_asd.errors import EngineError, UnavailableError

LOG = logging.getLogger(__name__)


class ForeignEngineError(UnavailableError):
    """TensorRT refuses a serialized engine, or it is of another network."""


@released_on_error()
def deserialize(trt: Any, runtime: Any, plan: bytes, tensors: Sequence[TensorSpec]) -> Any:
    """The engine of a plan, whose tensors are those of the network.

    Args:
        trt: the tensorrt module.
        runtime: which the engine needs as long as it lives.
        plan: as built.
        tensors: inputs and outputs that the network has. An input that nothing uses may be missing from the engine.

    Raises:
        ForeignEngineError: it is for another GPU, TensorRT or network.
        UnavailableError: the driver is too old for TensorRT.
    """
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        check_driver(trt)
        raise ForeignEngineError(
            f"TensorRT {trt.__version__} refuses the engine; expected one that it built on this GPU; build it again: "
            "edge-asd engine build"
        )
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    found = {name: (engine.get_tensor_dtype(name), tuple(engine.get_tensor_shape(name))[1:]) for name in names}
    expected = {spec.name: (trt.float32, tuple(spec.shape[1:])) for spec in tensors}
    unused = set(expected) - set(found) - {"embedding", "cosine", "feature_map"}
    if found != {name: layout for name, layout in expected.items() if name not in unused}:
        raise ForeignEngineError(
            f"the engine has tensors {found}; expected {expected}; build it again: edge-asd engine build"
        )
    return engine


class Network:
    """An engine's execution contexts, one a batch size: what is captured of one must not be changed by another.

    They share one piece of working memory, since only one runs at a time. Where this fails, all of them have ended, and
    the engine is the caller's to end, ahead of its runtime and of the GPU's context.

    Args:
        trt: the tensorrt module.
        runtime: that made the engine; kept as long as the engine.
        engine: deserialized.
        gpu: whose stream all work is put on.
        batch_sizes: that the engine was built for.
        addresses: of its tensors, by name.

    Raises:
        CudaError: the GPU's memory is exhausted.
        UnavailableError: TensorRT cannot make a context.
    """

    def __init__(
        self, trt: Any, runtime: Any, engine: Any, gpu: Gpu, *, batch_sizes: Sequence[int], addresses: Mapping[str, int]
    ) -> None:
        self._gpu = gpu
        self._owners: list[Any] = [runtime, engine]  # ends before its runtime
        self._contexts: dict[int, Any] = {}
        del runtime, engine  # nothing else of this call may keep them
        try:
            with released_on_error():
                self._make_contexts(trt, batch_sizes, addresses)
        except BaseException:
            self.close()
            raise

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Rising, from 1."""
        return tuple(self._contexts)

    def put(self, batch_size: int) -> None:
        """Put the network on the GPU's stream.

        Raises:
            EngineError: TensorRT fails.
        """
        if not self._contexts[batch_size].execute_async_v3(self._gpu.stream):
            raise EngineError(
                "TensorRT cannot run the network; its reason stands in the log above; expected the GPU to be as it was "
                "at the start; free its memory, or restart edge-asd"
            )

    def close(self) -> None:
        """Release contexts, engine and runtime, in this order."""
        if not self._owners:
            return
        try:
            with self._gpu.current():
                self._contexts.clear()
                while self._owners:
                    self._owners.pop()
        except CudaError as error:  # after a fault of the GPU; they end with this object
            LOG.debug("not given back in order: %s", error)

    def _make_contexts(self, trt: Any, batch_sizes: Sequence[int], addresses: Mapping[str, int]) -> None:
        engine = self._owners[-1]
        n_bytes = _working_bytes(engine)
        working_memory = self._gpu.allocate(n_bytes, "the network's layers")
        for size in batch_sizes:
            self._contexts[size] = context = _context(trt, engine)
            if context is None:
                raise UnavailableError(
                    "TensorRT cannot make an execution context; its reason stands in the log above; expected enough "
                    "free memory on the GPU; end other programs"
                )
            if hasattr(context, "set_device_memory"):
                context.set_device_memory(working_memory, n_bytes)
            else:
                context.device_memory = working_memory  # TensorRT 8.6
            if not _is_set_up(trt, context, self._gpu, size, addresses):
                raise UnavailableError(
                    f"TensorRT refuses batch size {size} for its own engine; expected one of {tuple(batch_sizes)}; "
                    "build the engine again: edge-asd engine build"
                )


def _is_set_up(trt: Any, context: Any, gpu: Gpu, batch_size: int, addresses: Mapping[str, int]) -> bool:
    engine = context.engine
    done = [context.set_optimization_profile_async(0 if batch_size == 1 else 1, gpu.stream)]
    gpu.synchronize()
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        done.append(context.set_tensor_address(name, addresses[name]))
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
            done.append(context.set_input_shape(name, (batch_size, *tuple(engine.get_tensor_shape(name))[1:])))
    return all(done)


def _context(trt: Any, engine: Any) -> Any:
    """An execution context that is given its working memory."""
    if hasattr(trt, "ExecutionContextAllocationStrategy"):
        return engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    return engine.create_execution_context_without_device_memory()  # TensorRT 8.6


def _working_bytes(engine: Any) -> int:
    # The plain name is gone in TensorRT 11; 8.6 has it alone.
    return int(engine.device_memory_size_v2 if hasattr(engine, "device_memory_size_v2") else engine.device_memory_size)

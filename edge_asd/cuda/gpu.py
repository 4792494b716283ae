"""The first GPU in, its memory, stream, kernels and graphs out; closing it gives back all that it handed out."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_asd.cuda.binding import Kernel, open_binding
from edge_asd.cuda.driver import OUT_OF_MEMORY, CudaError, open_driver

LOG = logging.getLogger(__name__)
MemoryT = TypeVar("MemoryT")

# CUdevice_attribute.
_MULTIPROCESSOR_COUNT, _L2_CACHE_BYTES = 16, 38
_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR = 75, 76
_SCHEDULE_BLOCKING_SYNC = 4
_CAPTURE_RELAXED = 2
_PRIMARY_CONTEXT_ACTIVE = 708


class Gpu:
    """The first GPU's primary context (TensorRT works in it) with one stream, on which all work is put in order.

    Memory is handed out as plain addresses and given back by `close` alone: whoever uses it allocates all at the
    start. Whatever thread calls, it does so within `current`, but for `close`.

    Raises:
        UnavailableError: there is no driver, no GPU, or the driver is too old.
        CudaError: the GPU cannot be used.
    """

    def __init__(self) -> None:
        self._driver = cuda = open_driver()
        self._graphs: list[ctypes.c_void_p] = []
        device = ctypes.c_int()
        cuda.cuDeviceGet(device, 0)
        name = ctypes.create_string_buffer(256)
        cuda.cuDeviceGetName(name, len(name), device)
        self.name = name.value.decode("utf-8", "replace")
        major, minor, self.n_multiprocessors, self.l2_bytes = (
            self._attribute(attribute, device.value)
            for attribute in (
                _COMPUTE_CAPABILITY_MAJOR,
                _COMPUTE_CAPABILITY_MINOR,
                _MULTIPROCESSOR_COUNT,
                _L2_CACHE_BYTES,
            )
        )
        self.compute_capability = (major, minor)
        total_bytes = ctypes.c_size_t()
        cuda.cuDeviceTotalMem_v2(total_bytes, device)
        self.total_bytes = total_bytes.value
        try:
            # Waiting for the GPU must not burn a core.
            cuda.cuDevicePrimaryCtxSetFlags_v2(device, _SCHEDULE_BLOCKING_SYNC)
        except CudaError as error:
            if error.code != _PRIMARY_CONTEXT_ACTIVE:  # another library of this process chose already
                raise
        self._binding = open_binding(cuda, device.value)

    @property
    def architecture(self) -> str:
        """Name of the GPU's machine code, as in sm_87."""
        return "sm_{}{}".format(*self.compute_capability)

    @property
    def binding(self) -> str:
        """By what the driver is called: pycuda or ctypes."""
        return self._binding.name

    @property
    def stream(self) -> int:
        """Handle of the stream, for TensorRT."""
        return self._binding.stream

    def current(self) -> AbstractContextManager[None]:
        """While this is entered, the context is that of the calling thread."""
        return self._driver.current(self._binding.context)

    def free_bytes(self) -> tuple[int, int]:
        """Free memory and all memory of the GPU."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._driver.cuMemGetInfo_v2(free, total)
        return free.value, total.value

    def allocate(self, n_bytes: int, purpose: str) -> int:
        """Address of zeroed GPU memory.

        Raises:
            CudaError: the GPU's memory is exhausted; the message says what it was for and how much is free.
        """
        n_bytes = max(n_bytes, 1)
        address = self._allocated(n_bytes, purpose, self._binding.allocate)
        self._binding.put_zeros(address, n_bytes)
        return address

    def pinned(self, n_bytes: int, purpose: str) -> NDArray[np.uint8]:
        """Zeroed page-locked host memory, which the GPU copies from and to without the CPU.

        Raises:
            CudaError: memory is exhausted (on a Jetson GPU and CPU share it).
        """
        memory = self._allocated(n_bytes, purpose, self._binding.pinned)
        memory[:] = 0
        return memory

    def upload(self, address: int, source: NDArray[Any]) -> None:
        """Put a copy from pinned, contiguous memory to the GPU on the stream; `source` must stay until it is done."""
        self._binding.put_upload(address, source)

    def download(self, target: NDArray[Any], address: int) -> None:
        """Put a copy from the GPU to pinned, contiguous memory on the stream; it is there after `synchronize`."""
        self._binding.put_download(target, address)

    def constant(self, values: NDArray[Any], purpose: str) -> int:
        """Address of a copy of `values` that stays; done when this returns."""
        staging = self.pinned(values.nbytes, purpose)
        staging[:] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        address = self.allocate(values.nbytes, purpose)
        self.upload(address, staging)
        self.synchronize()
        return address

    def synchronize(self) -> None:
        """Wait until all work on the stream is done."""
        self._binding.synchronize()

    def kernels(self, cubin: bytes, names: tuple[str, ...]) -> tuple[Kernel, ...]:
        """Functions of a compiled module that put a launch on the stream."""
        return self._binding.kernels(cubin, names)

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what `work` puts on the stream, as a function that replays it by one call.

        Nothing of it is executed here. Addresses and sizes are those of the recording for ever. Always by plain calls
        of the driver: pycuda knows no graphs.
        """
        cuda, stream = self._driver, self._binding.stream
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        cuda.cuStreamBeginCapture_v2(stream, _CAPTURE_RELAXED)
        try:
            work()
        finally:
            cuda.cuStreamEndCapture(stream, graph)
        try:
            cuda.cuGraphInstantiateWithFlags(executable, graph, 0)
        finally:
            cuda.cuGraphDestroy(graph)
        self._graphs.append(executable)
        return lambda: cuda.cuGraphLaunch(executable, stream)

    def close(self) -> None:
        """Give everything back; a second call does nothing.

        After a fault of the GPU the driver refuses every call: then the process's end gives it back.
        """
        try:
            if self._graphs:
                with self.current():
                    while self._graphs:
                        self._driver.cuGraphExecDestroy(self._graphs.pop())
        except CudaError as error:
            LOG.debug("not given back: %s", error)
        self._binding.close()

    def _attribute(self, attribute: int, device: int) -> int:
        value = ctypes.c_int()
        self._driver.cuDeviceGetAttribute(value, attribute, device)
        return value.value

    def _allocated(self, n_bytes: int, purpose: str, allocate: Callable[[int], MemoryT]) -> MemoryT:
        try:
            return allocate(n_bytes)
        except CudaError as error:
            if error.code != OUT_OF_MEMORY:
                raise
            free, total = self.free_bytes()
            raise CudaError(
                f"GPU memory is exhausted: {n_bytes / 1e6:.1f} MB wanted for {purpose}, {free / 1e6:.1f} of "
                f"{total / 1e6:.0f} MB are free",
                error.code,
                advice="end other programs on the GPU, or give this device fewer machines",
            ) from error

    def __enter__(self) -> Gpu:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

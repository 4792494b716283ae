"""The first GPU in, its memory, stream, kernels and graphs out; closing it gives back all that it handed out."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_asd.cuda.driver import OUT_OF_MEMORY, CudaError, open_driver

LOG = logging.getLogger(__name__)

_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR = 75, 76
_SCHEDULE_BLOCKING_SYNC = 4
_STREAM_NON_BLOCKING = 1
_CAPTURE_RELAXED = 2
_PRIMARY_CONTEXT_ACTIVE = 708

Kernel: TypeAlias = Callable[..., None]
"""kernel((grid x, grid y), threads of a block, *ctypes values): puts one launch on the stream."""


class Gpu:
    """The first GPU's primary context (TensorRT works in it) with one stream, on which all work is put in order.

    A context manager. Memory is handed out as plain addresses and given back by `close` alone: whoever uses it
    allocates all at the start.

    Raises:
        UnavailableError: there is no driver, no GPU, or the driver is too old.
        CudaError: the GPU cannot be used.
    """

    def __init__(self) -> None:
        self._driver = open_driver()
        self._releases: list[tuple[Callable[..., None], Any]] = []
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        cuda = self._driver
        device = ctypes.c_int()
        cuda.cuDeviceGet(device, 0)
        name = ctypes.create_string_buffer(256)
        cuda.cuDeviceGetName(name, len(name), device)
        self.name = name.value.decode("utf-8", "replace")
        major, minor = ctypes.c_int(), ctypes.c_int()
        cuda.cuDeviceGetAttribute(major, _COMPUTE_CAPABILITY_MAJOR, device)
        cuda.cuDeviceGetAttribute(minor, _COMPUTE_CAPABILITY_MINOR, device)
        self.compute_capability = (major.value, minor.value)
        try:
            # Waiting for the GPU must not burn a core.
            cuda.cuDevicePrimaryCtxSetFlags_v2(device, _SCHEDULE_BLOCKING_SYNC)
        except CudaError as error:
            if error.code != _PRIMARY_CONTEXT_ACTIVE:  # another library of this process chose already
                raise
        self._context = ctypes.c_void_p()
        cuda.cuDevicePrimaryCtxRetain(self._context, device)
        self._releases.append((cuda.cuDevicePrimaryCtxRelease_v2, device))
        self.make_current()
        stream = ctypes.c_void_p()
        cuda.cuStreamCreate(stream, _STREAM_NON_BLOCKING)
        self._releases.append((cuda.cuStreamDestroy_v2, stream))
        self._stream = stream

    @property
    def architecture(self) -> str:
        """Name of the GPU's machine code, as in sm_87."""
        return "sm_{}{}".format(*self.compute_capability)

    @property
    def stream(self) -> int:
        """Handle of the stream, for TensorRT."""
        return int(self._stream.value or 0)

    def make_current(self) -> None:
        """Bind the context to the calling thread."""
        self._driver.cuCtxSetCurrent(self._context)

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
        address = ctypes.c_uint64()
        self._allocate(n_bytes, purpose, lambda: self._driver.cuMemAlloc_v2(address, max(n_bytes, 1)))
        self._releases.append((self._driver.cuMemFree_v2, address.value))
        self._driver.cuMemsetD8Async(address.value, 0, max(n_bytes, 1), self._stream)
        return address.value

    def pinned(self, n_bytes: int, purpose: str) -> NDArray[np.uint8]:
        """Zeroed page-locked host memory, which the GPU copies from and to without the CPU.

        Raises:
            CudaError: memory is exhausted (on a Jetson GPU and CPU share it).
        """
        address = ctypes.c_void_p()
        self._allocate(n_bytes, purpose, lambda: self._driver.cuMemHostAlloc(address, max(n_bytes, 1), 0))
        self._releases.append((self._driver.cuMemFreeHost, address))
        memory = np.ctypeslib.as_array((ctypes.c_ubyte * n_bytes).from_address(address.value or 0))
        memory[:] = 0
        return memory

    def upload(self, address: int, source: NDArray[Any]) -> None:
        """Put a copy from pinned, contiguous memory to the GPU on the stream; `source` must stay until it is done."""
        self._driver.cuMemcpyHtoDAsync_v2(address, source.ctypes.data, source.nbytes, self._stream)

    def download(self, target: NDArray[Any], address: int) -> None:
        """Put a copy from the GPU to pinned, contiguous memory on the stream; it is there after `synchronize`."""
        self._driver.cuMemcpyDtoHAsync_v2(target.ctypes.data, address, target.nbytes, self._stream)

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
        self._driver.cuStreamSynchronize(self._stream)

    def kernels(self, cubin: bytes, names: tuple[str, ...]) -> tuple[Kernel, ...]:
        """Functions of a compiled module that put a launch on the stream."""
        module = ctypes.c_void_p()
        self._driver.cuModuleLoadData(module, cubin)
        self._releases.append((self._driver.cuModuleUnload, module))
        return tuple(self._kernel(module, name) for name in names)

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what `work` puts on the stream, as a function that replays it by one call.

        Nothing of it is executed here. Addresses and sizes are those of the recording for ever.
        """
        cuda = self._driver
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        cuda.cuStreamBeginCapture_v2(self._stream, _CAPTURE_RELAXED)
        try:
            work()
        finally:
            cuda.cuStreamEndCapture(self._stream, graph)
        try:
            cuda.cuGraphInstantiateWithFlags(executable, graph, 0)
        finally:
            cuda.cuGraphDestroy(graph)
        self._releases.append((cuda.cuGraphExecDestroy, executable))
        return lambda: cuda.cuGraphLaunch(executable, self._stream)

    def close(self) -> None:
        """Give everything back; a second call does nothing.

        After a fault of the GPU the driver refuses every call: then the process's end gives it back.
        """
        while self._releases:
            release, handle = self._releases.pop()
            try:
                release(handle)
            except CudaError as error:
                LOG.debug("not given back: %s", error)

    def _allocate(self, n_bytes: int, purpose: str, call: Callable[[], None]) -> None:
        try:
            call()
        except CudaError as error:
            if error.code != OUT_OF_MEMORY:
                raise
            free, total = self.free_bytes()
            raise CudaError(
                f"GPU memory is exhausted: {n_bytes / 1e6:.1f} MB wanted for {purpose}, {free / 1e6:.1f} of "
                f"{total / 1e6:.0f} MB are free; end other programs on the GPU, or give this device fewer machines",
                error.code,
            ) from error

    def _kernel(self, module: ctypes.c_void_p, name: str) -> Kernel:
        function = ctypes.c_void_p()
        self._driver.cuModuleGetFunction(function, module, name.encode("ascii"))

        def launch(grid: tuple[int, int], n_threads: int, *arguments: Any) -> None:
            pointers = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(argument) for argument in arguments))
            self._driver.cuLaunchKernel(function, *grid, 1, n_threads, 1, 1, 0, self._stream, pointers, None)

        return launch

    def __enter__(self) -> Gpu:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

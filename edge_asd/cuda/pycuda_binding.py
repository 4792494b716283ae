"""A GPU in, its memory, stream and kernels through pycuda out (see `edge_asd.cuda.binding.Binding`)."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pycuda.driver as cuda
from numpy.typing import NDArray

from edge_asd.cuda.driver import NO_BINARY_FOR_GPU, OUT_OF_MEMORY, STREAM_NON_BLOCKING, UNKNOWN, CudaError, Driver

LOG = logging.getLogger(__name__)


class PycudaBinding:
    """The binding by pycuda, in the primary context, where TensorRT works.

    pycuda keeps a stack of contexts for each thread, and ends the process when a thread ends whose stack is not empty.
    So its context is on a stack only while memory, stream or kernels are made or given back; `pycuda.autoprimaryctx`,
    which leaves it on that of the thread that imports it, would not do. What is put on the stream needs no stack.
    """

    name = "pycuda"

    def __init__(self, driver: Driver, device: int) -> None:
        self._driver = driver
        self._memory: list[Any] = []
        self._functions: dict[str, Any] = {}  # each keeps its module
        with _cuda_errors():
            cuda.init()
            self._context = cuda.Device(device).retain_primary_context()
            self.context = int(self._context.handle)
            with self._pushed():
                self._stream = cuda.Stream(STREAM_NON_BLOCKING)
        self.stream = int(self._stream.handle)

    def allocate(self, n_bytes: int) -> int:
        """Address of GPU memory."""
        with _cuda_errors(), self._pushed():
            memory = cuda.mem_alloc(n_bytes)
        self._memory.append(memory)
        return int(memory)

    def pinned(self, n_bytes: int) -> NDArray[np.uint8]:
        """Page-locked host memory."""
        with _cuda_errors(), self._pushed():
            memory: NDArray[np.uint8] = cuda.pagelocked_empty(n_bytes, np.uint8)
        self._memory.append(memory.base)
        return memory

    def put_zeros(self, address: int, n_bytes: int) -> None:
        """Put zeros on the stream."""
        with _cuda_errors():
            cuda.memset_d8_async(address, 0, n_bytes, self._stream)

    def put_upload(self, address: int, source: NDArray[Any]) -> None:
        """Put a copy from pinned memory to the GPU on the stream."""
        with _cuda_errors():
            cuda.memcpy_htod_async(address, source, self._stream)

    def put_download(self, target: NDArray[Any], address: int) -> None:
        """Put a copy from the GPU to pinned memory on the stream."""
        with _cuda_errors():
            cuda.memcpy_dtoh_async(target, address, self._stream)

    def synchronize(self) -> None:
        """Wait until all work on the stream is done."""
        with _cuda_errors():
            self._stream.synchronize()

    def kernels(self, cubin: bytes, names: tuple[str, ...]) -> tuple[Callable[..., None], ...]:
        """Functions of a compiled module."""
        with _cuda_errors(NO_BINARY_FOR_GPU), self._pushed():
            module = cuda.module_from_buffer(cubin)
            self._functions.update((name, module.get_function(name)) for name in names)
        return tuple(self._kernel(name) for name in names)

    def close(self) -> None:
        """Give everything back; a second call does nothing.

        After a fault of the GPU the driver refuses every call, which pycuda writes to stderr: then the process's end
        gives it back.
        """
        if self._context is None:
            return
        context, self._context = self._context, None
        try:
            with _cuda_errors():
                context.push()
                self._functions.clear()
                while self._memory:
                    self._memory.pop().free()
                self._stream = None
                context.detach()  # takes it from pycuda's stack, but not from the driver's
            self._driver.cuCtxPopCurrent_v2(ctypes.c_void_p())
        except CudaError as error:
            LOG.debug("not given back: %s", error)

    @contextmanager
    def _pushed(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        finally:
            cuda.Context.pop()

    def _kernel(self, name: str) -> Callable[..., None]:
        def launch(grid: tuple[int, int], n_threads: int, *arguments: np.generic) -> None:
            with _cuda_errors():
                self._functions[name](*arguments, grid=grid, block=(n_threads, 1, 1), stream=self._stream)

        return launch


@contextmanager
def _cuda_errors(code: int = UNKNOWN) -> Iterator[None]:
    """Errors of pycuda, which tells no codes, as ours; memory that is exhausted has a class of its own."""
    try:
        yield
    except cuda.MemoryError as error:
        raise CudaError(str(error), OUT_OF_MEMORY) from error
    except cuda.Error as error:
        raise CudaError(str(error), code) from error

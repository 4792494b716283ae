"""A GPU in, its memory, stream and kernels by plain calls of the driver out (see `edge_asd.cuda.binding.Binding`)."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_asd.cuda.driver import STREAM_NON_BLOCKING, CudaError, Driver

LOG = logging.getLogger(__name__)


class CtypesBinding:
    """The binding that needs nothing but the driver."""

    name = "ctypes"

    def __init__(self, driver: Driver, device: int) -> None:
        self._driver = driver
        self._releases: list[tuple[Callable[..., None], Any]] = []
        context, stream = ctypes.c_void_p(), ctypes.c_void_p()
        driver.cuDevicePrimaryCtxRetain(context, device)
        self.context = context.value or 0
        try:
            with driver.current(self.context):
                driver.cuStreamCreate(stream, STREAM_NON_BLOCKING)
        except BaseException:
            driver.cuDevicePrimaryCtxRelease_v2(device)
            raise
        self.stream = stream.value or 0
        self._device: int | None = device
        self._releases.append((driver.cuStreamDestroy_v2, stream))

    def allocate(self, n_bytes: int) -> int:
        """Address of GPU memory."""
        address = ctypes.c_uint64()
        self._driver.cuMemAlloc_v2(address, n_bytes)
        self._releases.append((self._driver.cuMemFree_v2, address.value))
        return address.value

    def pinned(self, n_bytes: int) -> NDArray[np.uint8]:
        """Page-locked host memory."""
        address = ctypes.c_void_p()
        self._driver.cuMemHostAlloc(address, n_bytes, 0)
        self._releases.append((self._driver.cuMemFreeHost, address))
        return np.ctypeslib.as_array((ctypes.c_ubyte * n_bytes).from_address(address.value or 0))

    def put_zeros(self, address: int, n_bytes: int) -> None:
        """Put zeros on the stream."""
        self._driver.cuMemsetD8Async(address, 0, n_bytes, self.stream)

    def put_upload(self, address: int, source: NDArray[Any]) -> None:
        """Put a copy from pinned memory to the GPU on the stream."""
        self._driver.cuMemcpyHtoDAsync_v2(address, source.ctypes.data, source.nbytes, self.stream)

    def put_download(self, target: NDArray[Any], address: int) -> None:
        """Put a copy from the GPU to pinned memory on the stream."""
        self._driver.cuMemcpyDtoHAsync_v2(target.ctypes.data, address, target.nbytes, self.stream)

    def synchronize(self) -> None:
        """Wait until all work on the stream is done."""
        self._driver.cuStreamSynchronize(self.stream)

    def kernels(self, cubin: bytes, names: tuple[str, ...]) -> tuple[Callable[..., None], ...]:
        """Functions of a compiled module."""
        module = ctypes.c_void_p()
        self._driver.cuModuleLoadData(module, cubin)
        self._releases.append((self._driver.cuModuleUnload, module))
        return tuple(self._kernel(module, name) for name in names)

    def close(self) -> None:
        """Give everything back; a second call does nothing.

        After a fault of the GPU the driver refuses every call: then the process's end gives it back.
        """
        if self._device is None:
            return
        device, self._device = self._device, None
        try:
            with self._driver.current(self.context):
                while self._releases:
                    self._release(*self._releases.pop())
        except CudaError as error:
            LOG.debug("not given back: %s", error)
        self._release(self._driver.cuDevicePrimaryCtxRelease_v2, device)

    @staticmethod
    def _release(release: Callable[..., None], handle: Any) -> None:
        try:
            release(handle)
        except CudaError as error:
            LOG.debug("not given back: %s", error)

    def _kernel(self, module: ctypes.c_void_p, name: str) -> Callable[..., None]:
        function = ctypes.c_void_p()
        self._driver.cuModuleGetFunction(function, module, name.encode("ascii"))

        def launch(grid: tuple[int, int], n_threads: int, *arguments: np.generic) -> None:
            values = [np.array(argument) for argument in arguments]  # which have addresses
            pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
            self._driver.cuLaunchKernel(function, *grid, 1, n_threads, 1, 1, 0, self.stream, pointers, None)

        return launch

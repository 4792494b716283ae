"""A GPU in, whatever calls the driver for its memory, stream and kernels out: pycuda, or ctypes where it is missing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_asd.cuda.ctypes_binding import CtypesBinding
from edge_asd.cuda.driver import Driver

LOG = logging.getLogger(__name__)

Kernel: TypeAlias = Callable[..., None]
"""kernel((grid x, grid y), threads of a block, *numpy scalars): puts one launch on the stream."""


class Binding(Protocol):
    """The GPU's primary context with one stream. It is open from the start; its memory goes with `close` alone.

    All but `close` is called while the context is that of the calling thread. Raises CudaError.
    """

    name: str
    context: int
    stream: int

    def allocate(self, n_bytes: int) -> int:
        """Address of GPU memory."""
        ...

    def pinned(self, n_bytes: int) -> NDArray[np.uint8]:
        """Page-locked host memory."""
        ...

    def put_zeros(self, address: int, n_bytes: int) -> None:
        """Put zeros on the stream."""
        ...

    def put_upload(self, address: int, source: NDArray[Any]) -> None:
        """Put a copy from contiguous pinned memory to the GPU on the stream."""
        ...

    def put_download(self, target: NDArray[Any], address: int) -> None:
        """Put a copy from the GPU to contiguous pinned memory on the stream."""
        ...

    def synchronize(self) -> None:
        """Wait until all work on the stream is done."""
        ...

    def kernels(self, cubin: bytes, names: tuple[str, ...]) -> tuple[Kernel, ...]:
        """Functions of a compiled module."""
        ...

    def close(self) -> None:
        """Give everything back; a second call does nothing."""
        ...


def open_binding(driver: Driver, device: int) -> Binding:
    """The one by pycuda where that can be imported; the driver has been probed, without which that import fails.

    Raises:
        CudaError: the GPU cannot be used.
    """
    try:
        from edge_asd.cuda.pycuda_binding import PycudaBinding  # noqa: PLC0415 - an extra, and late: see above
    except Exception as error:  # noqa: BLE001 - one built for another CUDA or numpy may raise anything
        LOG.info("pycuda cannot be imported (%s): the CUDA driver is called through ctypes, which does the same", error)
        return CtypesBinding(driver, device)
    return PycudaBinding(driver, device)

"""The CUDA driver's library in, its calls as functions that raise what went wrong out."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from edge_asd.errors import EngineError, UnavailableError

LOG = logging.getLogger(__name__)

LIBRARY = "libcuda.so.1"
OUT_OF_MEMORY = 2
NO_DEVICE = 100
NO_BINARY_FOR_GPU = 209
BAD_KERNEL = (200, NO_BINARY_FOR_GPU, 218, 222)  # also: an invalid image, invalid PTX, PTX of a newer CUDA
_FIRST_FAULT = 700  # an illegal address; from there on: faults of the GPU, of its driver or of a program on it
UNKNOWN = 999
STREAM_NON_BLOCKING = 1
OLDEST_VERSION = 12_000
"""CUDA that the driver must support: JetPack 6.0 has 12.2, TensorRT 8.6 to 11 on a workstation need 12.0."""

_INT, _UINT, _SIZE, _POINTER, _FLAGS = (
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_ulonglong,
)
_OUT_INT, _OUT_SIZE, _OUT_POINTER = ctypes.POINTER(_INT), ctypes.POINTER(_SIZE), ctypes.POINTER(_POINTER)
_ADDRESS = ctypes.c_uint64
_OUT_ADDRESS = ctypes.POINTER(_ADDRESS)

# Source: CUDA Driver API reference, the names that cuda.h maps to since CUDA 12.0.
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (_UINT,),
    "cuDriverGetVersion": (_OUT_INT,),
    "cuDeviceGet": (_OUT_INT, _INT),
    "cuDeviceGetName": (ctypes.c_char_p, _INT, _INT),
    "cuDeviceGetAttribute": (_OUT_INT, _INT, _INT),
    "cuDeviceTotalMem_v2": (_OUT_SIZE, _INT),
    "cuDevicePrimaryCtxSetFlags_v2": (_INT, _UINT),
    "cuDevicePrimaryCtxRetain": (_OUT_POINTER, _INT),
    "cuDevicePrimaryCtxRelease_v2": (_INT,),
    "cuCtxPushCurrent_v2": (_POINTER,),
    "cuCtxPopCurrent_v2": (_OUT_POINTER,),
    "cuMemGetInfo_v2": (_OUT_SIZE, _OUT_SIZE),
    "cuMemAlloc_v2": (_OUT_ADDRESS, _SIZE),
    "cuMemFree_v2": (_ADDRESS,),
    "cuMemHostAlloc": (_OUT_POINTER, _SIZE, _UINT),
    "cuMemFreeHost": (_POINTER,),
    "cuMemsetD8Async": (_ADDRESS, ctypes.c_ubyte, _SIZE, _POINTER),
    "cuMemcpyHtoDAsync_v2": (_ADDRESS, _POINTER, _SIZE, _POINTER),
    "cuMemcpyDtoHAsync_v2": (_POINTER, _ADDRESS, _SIZE, _POINTER),
    "cuStreamCreate": (_OUT_POINTER, _UINT),
    "cuStreamDestroy_v2": (_POINTER,),
    "cuStreamSynchronize": (_POINTER,),
    "cuStreamBeginCapture_v2": (_POINTER, _INT),
    "cuStreamEndCapture": (_POINTER, _OUT_POINTER),
    "cuGraphInstantiateWithFlags": (_OUT_POINTER, _POINTER, _FLAGS),
    "cuGraphDestroy": (_POINTER,),
    "cuGraphExecDestroy": (_POINTER,),
    "cuGraphLaunch": (_POINTER, _POINTER),
    "cuModuleLoadData": (_OUT_POINTER, ctypes.c_char_p),
    "cuModuleUnload": (_POINTER,),
    "cuModuleGetFunction": (_OUT_POINTER, _POINTER, ctypes.c_char_p),
    "cuLaunchKernel": (_POINTER, *(_UINT,) * 7, _POINTER, ctypes.POINTER(_POINTER), _POINTER),
}


class CudaError(EngineError):
    """A call of the driver failed; the message ends with what to do about it.

    found: what failed and how. code: CUresult of the call.
    """

    def __init__(self, found: str, code: int, advice: str = "") -> None:
        super().__init__("; ".join(filter(None, (found, advice or _advice(code)))))
        self.found = found
        self.code = code


def _advice(code: int) -> str:
    if code == OUT_OF_MEMORY:
        return "expected free memory on the GPU; end other programs on it, or give this device fewer machines"
    if code in BAD_KERNEL:
        return (
            "expected a kernel for this GPU and driver; install the NVRTC of the driver's CUDA, or leave tensorrt out "
            "of engine.prefer"
        )
    if code >= _FIRST_FAULT:
        return "expected a GPU without a fault; see dmesg for its cause, and restart edge-asd, or else the device"
    return ""


class Driver:
    """The driver's calls, each a method by its name: `driver.cuInit(0)`.

    Raises:
        UnavailableError: there is no driver, no GPU, or the driver is too old.
    """

    def __init__(self, library: str) -> None:
        try:
            self._library = ctypes.CDLL(library)
            self._calls = {name: self._checked(name, types) for name, types in _SIGNATURES.items()}
        except OSError as error:
            raise UnavailableError(
                f"no CUDA driver: {library} cannot be loaded ({error}); expected a Jetson with JetPack 6 or later or a "
                "machine with NVIDIA's driver; in a container, start it with NVIDIA's runtime"
            ) from error
        except AttributeError as error:
            raise UnavailableError(
                f"the CUDA driver {library} lacks a call ({error}); expected that of CUDA 12.0 or later; update JetPack"
                " or the driver"
            ) from error
        self._probe()

    def __getattr__(self, name: str) -> Callable[..., None]:
        try:
            return self._calls[name]
        except KeyError:
            raise AttributeError(name) from None

    @contextmanager
    def current(self, context: int) -> Iterator[None]:
        """While this is entered, the context is that of the calling thread."""
        self.cuCtxPushCurrent_v2(context)
        try:
            yield
        finally:
            try:
                self.cuCtxPopCurrent_v2(ctypes.c_void_p())
            except CudaError as error:  # the fault that led here says more
                LOG.debug("not taken from the thread: %s", error)

    def _probe(self) -> None:
        """Ask for a GPU; nothing else of CUDA or TensorRT may be touched before."""
        try:
            self.cuInit(0)
        except CudaError as error:
            found = "no GPU" if error.code == NO_DEVICE else error.found
            raise UnavailableError(
                f"the CUDA driver finds {found}; expected an NVIDIA GPU that this user may use; "
                "run nvidia-smi, and check the rights to /dev/nv*"
            ) from error
        version = ctypes.c_int()
        self.cuDriverGetVersion(version)
        self.version = version.value
        if self.version < OLDEST_VERSION:
            raise UnavailableError(
                f"the driver supports CUDA up to {dotted(self.version)}; expected {dotted(OLDEST_VERSION)} or later; "
                "update the driver, on a Jetson to JetPack 6 or later (JetPack 5 is not served)"
            )

    def _checked(self, name: str, types: tuple[Any, ...]) -> Callable[..., None]:
        call = getattr(self._library, name)
        call.argtypes, call.restype = types, ctypes.c_int

        def checked(*arguments: Any) -> None:
            code = call(*arguments)
            if code:
                raise CudaError(f"{name} failed: {self._reason(code)}", code)

        return checked

    def _reason(self, code: int) -> str:
        parts = []
        for ask in ("cuGetErrorName", "cuGetErrorString"):
            text = ctypes.c_char_p()
            if not getattr(self._library, ask)(code, ctypes.byref(text)) and text.value:
                parts.append(text.value.decode("ascii", "replace"))
        return ", ".join(parts) or f"CUDA error {code}"


def open_driver() -> Driver:
    """The machine's driver, probed once in a process.

    Raises:
        UnavailableError: there is no driver, no GPU, or the driver is too old.
    """
    return _driver(LIBRARY)


@lru_cache(maxsize=1)
def _driver(library: str) -> Driver:
    return Driver(library)


def dotted(version: int) -> str:
    """As in 12.6."""
    return f"{version // 1000}.{version % 1000 // 10}"

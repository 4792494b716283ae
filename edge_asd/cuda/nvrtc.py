"""CUDA C++ in, machine code for one GPU architecture out, by the NVRTC library of the device's CUDA."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge_asd.cuda.driver import open_driver
from edge_asd.errors import UnavailableError

# Whatever the loader or CUDA's usual folder has, then CUDA 13 and 12.
_LIBRARIES = ("libnvrtc.so", "/usr/local/cuda/lib64/libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12")
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "nvrtcVersion": (ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int)),
    "nvrtcCreateProgram": (
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ),
    "nvrtcDestroyProgram": (ctypes.POINTER(ctypes.c_void_p),),
    "nvrtcCompileProgram": (ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)),
    "nvrtcGetProgramLogSize": (ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t)),
    "nvrtcGetProgramLog": (ctypes.c_void_p, ctypes.c_char_p),
    "nvrtcGetCUBINSize": (ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t)),
    "nvrtcGetCUBIN": (ctypes.c_void_p, ctypes.c_char_p),
}


class Nvrtc:
    """The compiler library; `version` as in (12, 6).

    Args:
        library: by default that of the driver's CUDA, whose kernels the driver is sure to take, or else another.

    Raises:
        UnavailableError: it is not installed.
    """

    def __init__(self, library: Path | None = None) -> None:
        self._library = _load([str(library)] if library else [*_library_of_driver(), *_LIBRARIES])
        for name, types in _SIGNATURES.items():
            getattr(self._library, name).argtypes = types
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", major, minor)
        self.version = (major.value, minor.value)

    def cubin(self, source: str, *, name: str, architecture: str, options: Sequence[str]) -> bytes:
        """Compile.

        Args:
            source: CUDA C++ without headers.
            name: of the source, for messages.
            architecture: as in sm_87.
            options: of the compiler, as in -DN=1.

        Raises:
            UnavailableError: it does not compile; the message holds the compiler's first error.
        """
        program = ctypes.c_void_p()
        self._call("nvrtcCreateProgram", program, source.encode("utf-8"), name.encode("ascii"), 0, None, None)
        try:
            flags = [flag.encode("ascii") for flag in (f"-arch={architecture}", *options)]
            status = self._library.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
            if status:
                raise UnavailableError(
                    f"{name} does not compile for {architecture} with NVRTC {self.version[0]}.{self.version[1]}: "
                    f"{self._first_error(program, status)}; expected a GPU that this CUDA knows; update CUDA, or leave "
                    "tensorrt out of engine.prefer"
                )
            return self._content(program, "nvrtcGetCUBINSize", "nvrtcGetCUBIN")
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _first_error(self, program: ctypes.c_void_p, status: int) -> str:
        log = self._content(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog")
        lines = [line.strip() for line in log.decode("utf-8", "replace").strip("\0\n ").splitlines() if line.strip()]
        return next((line for line in lines if "error" in line), (lines or [f"NVRTC error {status}"])[0])

    def _content(self, program: ctypes.c_void_p, ask_size: str, ask: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(ask_size, program, size)
        content = ctypes.create_string_buffer(size.value)
        self._call(ask, program, content)
        return content.raw

    def _call(self, name: str, *arguments: Any) -> None:
        call: Callable[..., int] = getattr(self._library, name)
        status = call(*arguments)
        if status:
            raise UnavailableError(f"{name} of NVRTC fails with {status}; expected a working CUDA; install it again")


def _library_of_driver() -> list[str]:
    try:
        return [f"libnvrtc.so.{open_driver().version // 1000}"]
    except UnavailableError:  # compiling needs no driver
        return []


def _load(names: Sequence[str]) -> ctypes.CDLL:
    reason: OSError | None = None
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            reason = reason or error
    raise UnavailableError(
        f"NVRTC, CUDA's compiler library, is not installed ({reason}); expected that of JetPack; "
        "install it: apt install cuda-nvrtc-12-6 (JetPack 6.1), or the package of your CUDA"
    ) from reason

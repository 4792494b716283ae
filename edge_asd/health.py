"""Linux and this process in; boot identity, state of the clock and software versions out."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from edge_asd import __version__
from edge_asd.errors import UnavailableError

BOOT_ID_PATH = Path("/proc/sys/kernel/random/boot_id")

# Once: each handle is a class of its own in a circle of references, and the clock is asked with every window.
_LIBC = ctypes.CDLL(None, use_errno=True)
_version = cache(metadata.version)  # an upgrade beside this process changes nothing in it

_TIME_ERROR = 5
_STA_UNSYNC = 0x0040


class _Timex(ctypes.Structure):
    """struct timex of Linux, up to what is read here, padded to more than its full size of 208 bytes.

    Source: man 2 adjtimex.
    """

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelClock:
    """What adjtimex(2) says: its return value, the status bits, and the largest possible error of the clock."""

    verdict: int
    status: int
    max_error_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Whether UTC can be trusted, and the kernel's bound on its error (None where it cannot be asked)."""

    synced: bool
    max_error_ms: float | None


def read_kernel_clock() -> KernelClock:
    """Asks the kernel about its clock; needs no privilege.

    Raises:
        OSError: the kernel forbids the question (some sandboxes do).
    """
    timex = _Timex()
    verdict = _LIBC.adjtimex(ctypes.byref(timex))
    if verdict < 0:
        raise OSError(ctypes.get_errno(), "adjtimex cannot be asked for the state of the clock")
    return KernelClock(verdict=verdict, status=timex.status, max_error_us=timex.maxerror)


def clock_state(read: Callable[[], KernelClock] = read_kernel_clock) -> Clock:
    """Whether the clock is synchronised; a clock that cannot be asked for counts as not synchronised."""
    try:
        kernel = read()
    except OSError:
        return Clock(synced=False, max_error_ms=None)
    synced = kernel.verdict != _TIME_ERROR and not kernel.status & _STA_UNSYNC
    return Clock(synced=synced, max_error_ms=kernel.max_error_us / 1000)


def boot_id(path: Path = BOOT_ID_PATH) -> str:
    """The kernel's name for the time since this boot, 36 characters; monotonic times compare only within one.

    Raises:
        UnavailableError: /proc is not mounted.
    """
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise UnavailableError(f"boot identity {path}: {error}; expected a Linux with /proc mounted") from error


def software_versions(packages: tuple[str, ...] = ("numpy", "paho-mqtt")) -> dict[str, str]:
    """Versions of this program, Python, the kernel and those of the packages that are installed."""
    versions = {"edge-asd": __version__, "python": platform.python_version(), "linux": platform.release()}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = _version(package)
    return versions

"""The device's TensorRT in, checked and with its messages in our log, out."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from edge_asd.errors import UnavailableError

LOG = logging.getLogger(__name__)

_OLDEST = (8, 6)
_NEWEST_MAJOR = 11
# "cudaError 35: CUDA driver version is insufficient ..." of 11, "CUDA initialization failure with error: 35" before.
_OLD_DRIVER = re.compile(r"cudaError 35\b|error: 35\b|driver version is insufficient")


class Callbacks:
    """What was raised within TensorRT's callbacks, Ctrl-C above all: its bindings swallow it.

    raised: the first error that waits for `raise_again`.
    """

    def __init__(self) -> None:
        self.raised: BaseException | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """What is raised within waits here."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - none of them gets through TensorRT
            self.raised = self.raised or error

    def raise_again(self) -> None:
        """To be called after each long call of TensorRT."""
        error, self.raised = self.raised, None
        if error is not None:
            raise error


def import_tensorrt() -> Any:
    """The `tensorrt` module. The caller has probed the driver: without one, TensorRT's objects may end the process.

    Raises:
        UnavailableError: it is not installed, or of a version that is not served.
    """
    try:
        import tensorrt  # noqa: PLC0415 - JetPack's package, absent elsewhere

        version = str(tensorrt.__version__)
    except Exception as error:  # a broken package may raise anything, above all OSError of its libraries
        raise UnavailableError(
            f"TensorRT's Python package cannot be imported ({error}); expected that of JetPack 6 or 7, not pip's; "
            "install it: apt install python3-libnvinfer, and make the venv with --system-site-packages"
        ) from error
    found = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if len(found) < 2 or not _OLDEST <= found < (_NEWEST_MAJOR + 1, 0):
        raise UnavailableError(
            f"TensorRT is {version}; expected 8.6 (JetPack 6.0) to {_NEWEST_MAJOR} (JetPack 7.2); "
            + ("update JetPack to 6 or later" if found < _OLDEST else "update edge-asd")
        )
    return tensorrt


@cache
def make_logger(trt: Any) -> Any:
    """The process's TensorRT logger, which writes to ours.

    There is one alone and it never ends: TensorRT keeps the first that it is given for all objects made later.

    Its `callbacks` hold what was raised within; `old_driver` is the message by which TensorRT said that the driver is
    too old for it.
    """
    severity = trt.ILogger.Severity
    levels = {
        severity.INTERNAL_ERROR: logging.ERROR,
        severity.ERROR: logging.ERROR,
        severity.WARNING: logging.WARNING,
        severity.INFO: logging.DEBUG,  # TensorRT's notes on each step are no news to the user
        severity.VERBOSE: 5,
    }

    class Logger(trt.ILogger):  # type: ignore[misc]  # TensorRT's package has no types
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.callbacks = Callbacks()
            self.old_driver = ""

        def log(self, severity: Any, message: str) -> None:
            with self.callbacks.kept():
                level = levels.get(severity, logging.DEBUG)
                if level >= logging.WARNING and _OLD_DRIVER.search(message):
                    self.old_driver = message
                LOG.log(level, "TensorRT: %s", message)

    return Logger()


def make_object(trt: Any, kind: Callable[[Any], Any]) -> Any:
    """A `trt.Builder` or `trt.Runtime`.

    Raises:
        UnavailableError: TensorRT cannot make it, or the driver is too old for TensorRT.
    """
    try:
        made = kind(make_logger(trt))
    except TypeError as error:  # what the bindings make of a null pointer
        check_driver(trt)
        raise UnavailableError(
            f"TensorRT {trt.__version__} cannot start on this machine ({error}); its reason may stand in the log; "
            "expected its libraries, the driver of their CUDA and free memory on the GPU; install TensorRT again, "
            "update the driver, or end other programs on the GPU"
        ) from error
    check_driver(trt)
    return made


def check_driver(trt: Any) -> None:
    """Each TensorRT is built for one CUDA, and nothing but its log says that the driver's is older.

    Raises:
        UnavailableError: it has said so.
    """
    if said := make_logger(trt).old_driver:
        raise UnavailableError(
            f"the driver is too old for TensorRT {trt.__version__} ({said}); expected one that supports the CUDA that "
            "this TensorRT was built for; update the driver, on a Jetson JetPack, or install a TensorRT for the "
            "driver's CUDA"
        )

"""The device's TensorRT in, checked and with its messages in our log, out."""

from __future__ import annotations

import logging
from typing import Any

from edge_asd.errors import UnavailableError

LOG = logging.getLogger(__name__)

_OLDEST = (8, 6)
_NEWEST_MAJOR = 11


def import_tensorrt() -> Any:
    """The `tensorrt` module. The caller has probed the driver: without one, TensorRT's objects may end the process.

    Raises:
        UnavailableError: it is not installed, or of a version that is not served.
    """
    try:
        import tensorrt  # noqa: PLC0415 - JetPack's package, absent elsewhere
    except ImportError as error:
        raise UnavailableError(
            f"TensorRT's Python package cannot be imported ({error}); expected that of JetPack 6 or 7, not pip's; "
            "install it: apt install python3-libnvinfer, and make the venv with --system-site-packages"
        ) from error
    version = str(tensorrt.__version__)
    found = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if len(found) < 2 or not _OLDEST <= found < (_NEWEST_MAJOR + 1, 0):
        raise UnavailableError(
            f"TensorRT is {version}; expected 8.6 (JetPack 6.0) to {_NEWEST_MAJOR} (JetPack 7.2); "
            + ("update JetPack to 6 or later" if found < _OLDEST else "update edge-asd")
        )
    return tensorrt


def make_logger(trt: Any) -> Any:
    """A TensorRT logger that writes to ours; it must outlive all objects made with it."""
    severity = trt.ILogger.Severity
    levels = {
        severity.INTERNAL_ERROR: logging.ERROR,
        severity.ERROR: logging.ERROR,
        severity.WARNING: logging.WARNING,
        severity.INFO: logging.DEBUG,  # TensorRT's notes on each step are no news to the user
        severity.VERBOSE: 5,
    }

    class Logger(trt.ILogger):  # type: ignore[misc]  # TensorRT's package has no types
        def log(self, severity: Any, message: str) -> None:
            LOG.log(levels.get(severity, logging.DEBUG), "TensorRT: %s", message)

    return Logger()

"""A bundle's network and a list of engines in, the first of them that runs it here out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Protocol

import numpy as np

from edge_asd.bundle import Bundle, Precision
from edge_asd.errors import UnavailableError, UsageError
from edge_asd.types import EngineOutputs, FloatArray

__all__ = ["ENGINE_NAMES", "Engine", "open_engine"]

LOG = logging.getLogger(__name__)


class Engine(Protocol):
    """Runs one network; a context manager that releases it. Not for use by several threads at once."""

    @property
    def name(self) -> str:
        """As in ENGINE_NAMES."""
        ...

    @property
    def precision(self) -> Precision:
        """Of the network that it runs."""
        ...

    def infer(self, wave: FloatArray, log_mel: FloatArray) -> EngineOutputs:
        """Outputs, owned by the caller, for wave (B, window_samples) and log_mel (B, n_mels, n_frames), float32."""
        ...

    def close(self) -> None:
        """Release the network; a second call does nothing."""
        ...

    def __enter__(self) -> Engine: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


def open_engine(bundle: Bundle, *, prefer: Sequence[str], precision: Precision, threads: int | None = None) -> Engine:
    """Open the first engine of `prefer` that runs the bundle's network; why others do not is logged.

    Args:
        bundle: holds the network, and the golden windows that an engine is tried with.
        prefer: names out of ENGINE_NAMES, best first.
        precision: of the network.
        threads: that the engine computes with; None or 0 is one for each core.

    Raises:
        UsageError: prefer is empty or names an engine that does not exist.
        UnavailableError: none of them works here; the message holds each one's reason.
    """
    strangers = [name for name in prefer if name not in _OPENERS]
    if strangers or not prefer:
        raise UsageError(
            f"engines to try are {', '.join(map(repr, prefer)) or 'none'}; expected one or more of "
            f"{', '.join(ENGINE_NAMES)}, best first"
        )
    reasons = []
    for name in prefer:
        try:
            engine = _OPENERS[name](bundle.onnx_model(precision), precision, threads or 0)
            _try_out(engine, bundle)
        except Exception as error:  # noqa: BLE001 - whatever stops a foreign engine is a reason to try the next
            reasons.append(f"{name}: {_reason(error)}")
            LOG.info("engine %s does not work here: %s", name, _reason(error))
            continue
        LOG.info("engine %s runs the %s network", name, precision)
        return engine
    raise UnavailableError(
        f"no engine works here for the {precision} network of {bundle.path}: {'; '.join(reasons)}; install one: "
        "pip install 'edge-asd[openvino]' or 'edge-asd[onnxruntime]'"
    )


def _open_tensorrt(model: bytes, precision: Precision, threads: int) -> Engine:  # noqa: ARG001 - one shape for all openers
    raise UnavailableError("not supported by this version of edge-asd")


def _open_openvino(model: bytes, precision: Precision, threads: int) -> Engine:
    from edge_asd.engine.openvino import OpenVinoEngine  # noqa: PLC0415 - the package may be absent, and is large

    return OpenVinoEngine(model, precision=precision, threads=threads)


def _open_onnxruntime(model: bytes, precision: Precision, threads: int) -> Engine:
    from edge_asd.engine.onnxruntime import OnnxRuntimeEngine  # noqa: PLC0415 - the package may be absent, and is large

    return OnnxRuntimeEngine(model, precision=precision, threads=threads)


_OPENERS: Mapping[str, Callable[[bytes, Precision, int], Engine]] = {
    "tensorrt": _open_tensorrt,
    "openvino": _open_openvino,
    "onnxruntime": _open_onnxruntime,
}
ENGINE_NAMES = tuple(_OPENERS)


def _try_out(engine: Engine, bundle: Bundle) -> None:
    """Run one window: some engines find only then that they cannot run a network, and the first run is slow."""
    outputs = engine.infer(bundle.golden.wave[:1], bundle.golden.log_mel[:1])
    for name, found, expected in (
        ("embedding", outputs.embedding, bundle.golden.embedding[:1]),
        ("cosine", outputs.cosine, bundle.golden.cosine[:1]),
    ):
        if found.shape != expected.shape or found.dtype != np.float32:
            raise UnavailableError(
                f"its output {name} is {found.dtype} {found.shape}; expected float32 {expected.shape}"
            )


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"not installed ({error.name} is missing)"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1]  # the cause comes last in what engines report

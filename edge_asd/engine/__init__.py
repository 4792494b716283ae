"""A bundle's network and a list of engines in, the first of them that runs it here out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from edge_asd.artifacts import Artifacts
from edge_asd.bundle import Bundle, Precision
from edge_asd.errors import UnavailableError, UsageError
from edge_asd.types import EngineOutputs, FloatArray

__all__ = ["ENGINE_NAMES", "Engine", "Heard", "Hop", "WaveEngine", "Workload", "open_engine"]

LOG = logging.getLogger(__name__)
StreamT = TypeVar("StreamT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What an engine that takes all its memory at the start must be ready for; more works, but slower.

    n_machines: whose windows it keeps. hop_samples: the longest step from window to window.
    """

    n_machines: int = 1
    hop_samples: int = 15_360


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop(Generic[StreamT]):
    """The next window of one machine.

    stream: what `WaveEngine.stream` made for that machine. wave: (window_samples,) float32.
    fresh_samples: how many of its newest samples the stream's window before did not hold.
    """

    stream: StreamT
    wave: FloatArray
    fresh_samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What front end and network make of one hop.

    outputs: of a batch of one; None where the log-mel is not finite, since the sound is not.
    features_ms, engine_ms: wall time of the front end, 0 where it is a part of the engine, and of the network.
    """

    outputs: EngineOutputs | None
    features_ms: float
    engine_ms: float


@runtime_checkable
class WaveEngine(Protocol[StreamT]):
    """Front end and network in one: an engine that brings its own front end is one, and gets waves alone."""

    @property
    def max_batch(self) -> int:
        """How many machines' hops are best heard at once."""
        ...

    def stream(self) -> StreamT:
        """A new machine's place for what the front end keeps from window to window."""
        ...

    def hear(self, hops: Sequence[Hop[StreamT]]) -> list[Heard]:
        """Outputs of one hop each of up to `max_batch` different machines.

        Raises:
            EngineError: the engine can go on no more.
        """
        ...

    def log_mel_db(self, wave: FloatArray) -> FloatArray:
        """What this front end makes of one whole window (window_samples,): (n_mels, n_frames), for the self-test."""
        ...


def open_engine(
    bundle: Bundle,
    *,
    prefer: Sequence[str],
    precision: Precision,
    threads: int | None = None,
    workload: Workload | None = None,
    artifacts: Artifacts | None = None,
    passed_over: list[str] | None = None,
) -> Engine:
    """Open the first engine of `prefer` that runs the bundle's network; why others do not is logged.

    Args:
        bundle: holds the network, and the golden windows that an engine is tried with.
        prefer: names out of ENGINE_NAMES, best first.
        precision: of the network.
        threads: that the engine computes with; None or 0 is one for each core.
        workload: by default one machine at the default hop.
        artifacts: keeps what takes long to build; None builds anew each time.
        passed_over: gets the name and the reason of each engine that was tried first and does not run it.

    Raises:
        UsageError: prefer is empty or names an engine that does not exist.
        BundleError: the bundle has no network of that precision.
        UnavailableError: none of them works here; the message holds each one's reason.
    """
    strangers = [name for name in prefer if name not in _OPENERS]
    if strangers or not prefer:
        raise UsageError(
            f"engines to try are {', '.join(map(repr, prefer)) or 'none'}; expected one or more of "
            f"{', '.join(ENGINE_NAMES)}, best first"
        )
    wanted = _Wanted(
        bundle=bundle,
        model=bundle.onnx_model(precision),
        precision=precision,
        threads=threads or 0,
        workload=workload or Workload(),
        artifacts=artifacts,
    )
    reasons = []
    for place, name in enumerate(prefer):
        try:
            engine = _OPENERS[name](wanted)
            try:
                _try_out(engine, bundle)
            except BaseException:
                engine.close()
                raise
        except Exception as error:  # noqa: BLE001 - whatever stops a foreign engine is a reason to try the next
            reasons.append(f"{name}: {_reason(error)}")
            is_last = place + 1 == len(prefer)
            LOG.log(logging.INFO if is_last else logging.WARNING, "engine %s does not work here: %s%s", name,
                    _reason(error), "" if is_last else f"; trying {prefer[place + 1]}")  # fmt: skip
            continue
        LOG.info("engine %s runs the %s network", name, precision)
        if passed_over is not None:
            passed_over += reasons
        return engine
    raise UnavailableError(
        f"no engine works here for the {precision} network of {bundle.path}: {'; '.join(reasons)}; install one: "
        "pip install 'edge-asd[openvino]' or 'edge-asd[onnxruntime]'"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What an opener needs to know."""

    bundle: Bundle
    model: bytes
    precision: Precision
    threads: int
    workload: Workload
    artifacts: Artifacts | None


def _open_tensorrt(wanted: _Wanted) -> Engine:
    from edge_asd.engine.tensorrt import open_tensorrt  # noqa: PLC0415 - only where it is wanted

    return open_tensorrt(
        wanted.model,
        wanted.bundle.manifest,
        precision=wanted.precision,
        n_machines=wanted.workload.n_machines,
        hop_samples=wanted.workload.hop_samples,
        artifacts=wanted.artifacts,
    )


def _open_openvino(wanted: _Wanted) -> Engine:
    from edge_asd.engine.openvino import OpenVinoEngine  # noqa: PLC0415 - the package may be absent, and is large

    return OpenVinoEngine(wanted.model, precision=wanted.precision, threads=wanted.threads)


def _open_onnxruntime(wanted: _Wanted) -> Engine:
    from edge_asd.engine.onnxruntime import OnnxRuntimeEngine  # noqa: PLC0415 - the package may be absent, and is large

    return OnnxRuntimeEngine(wanted.model, precision=wanted.precision, threads=wanted.threads)


_OPENERS: Mapping[str, Callable[[_Wanted], Engine]] = {
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
    size, feature_map = bundle.manifest.feature_map_size, outputs.feature_map
    if size is not None and (feature_map is None or feature_map.shape != (1, size)):
        found_shape = "absent" if feature_map is None else f"{feature_map.shape}"
        raise UnavailableError(f"its output feature_map is {found_shape}; expected (1, {size})")


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"not installed ({error.name} is missing)"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1]  # the cause comes last in what engines report

"""A bundle's network in, the TensorRT engine of this GPU, built here or taken from the cache and verified, out."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from edge_asd.artifacts import Artifacts, Key
from edge_asd.bundle import Manifest, Precision, TensorSpec
from edge_asd.cuda import Gpu, Nvrtc, open_log_mel_kernels
from edge_asd.engine.tensorrt.build import BuildSettings, batch_sizes, build_engine
from edge_asd.engine.tensorrt.contexts import ForeignEngineError, Network, deserialize
from edge_asd.engine.tensorrt.device import device_key, device_key_here, device_keys_here
from edge_asd.engine.tensorrt.engine import TensorRtEngine
from edge_asd.engine.tensorrt.library import import_tensorrt, make_logger, make_object
from edge_asd.engine.tensorrt.memory import Memory, Sizes
from edge_asd.engine.tensorrt.release import released_on_error
from edge_asd.errors import UnavailableError

__all__ = ["TensorRtEngine", "device_key_here", "device_keys_here", "open_tensorrt"]

LOG = logging.getLogger(__name__)


def open_tensorrt(
    model: bytes,
    manifest: Manifest,
    *,
    precision: Precision,
    n_machines: int,
    hop_samples: int,
    artifacts: Artifacts | None,
) -> TensorRtEngine:
    """Open the engine; the first time on a device it is built, which takes minutes.

    Args:
        model: serialized ONNX.
        manifest: of the bundle that holds it.
        precision: of that model.
        n_machines: whose windows are heard in turn; they fill batches where several are due.
        hop_samples: the longest step from window to window.
        artifacts: keeps what was built; None builds anew each time.

    Raises:
        UnavailableError: there is no driver, GPU, TensorRT or NVRTC that serves, or it cannot build the network.
        EngineError: the GPU cannot run it.
    """
    gpu = Gpu()  # probes the driver: without one, TensorRT's objects may end the process
    try:
        with gpu.current():
            return _opened(
                gpu,
                model,
                manifest,
                settings=BuildSettings(precision=precision, batch_sizes=batch_sizes(n_machines)),
                n_machines=n_machines,
                hop_samples=hop_samples,
                artifacts=artifacts,
            )
    except BaseException:
        gpu.close()
        raise


def _opened(
    gpu: Gpu,
    model: bytes,
    manifest: Manifest,
    *,
    settings: BuildSettings,
    n_machines: int,
    hop_samples: int,
    artifacts: Artifacts | None,
) -> TensorRtEngine:
    spec = manifest.feature_spec
    trt = import_tensorrt()
    kernels = open_log_mel_kernels(gpu, spec, artifacts, Nvrtc)
    plans = _Plans(
        trt, model=model, manifest=manifest, settings=settings, device=device_key(trt, gpu), artifacts=artifacts
    )
    plan = plans.kept_or_built()
    sizes = Sizes(
        n_rows=settings.batch_sizes[-1],
        n_rings=max(n_machines, settings.batch_sizes[-1]),
        max_fresh=min(hop_samples, spec.window_samples),
        outputs={spec.name: int(spec.shape[1]) for spec in manifest.outputs},
    )
    memory = Memory(gpu, spec, sizes)
    open_network = partial(
        _network,
        trt,
        gpu,
        tensors=(*manifest.inputs, *manifest.outputs),
        batch_sizes=settings.batch_sizes,
        addresses=memory.tensor_addresses(),
    )
    try:
        contexts = open_network(plan)
    except ForeignEngineError as error:
        _check_free_memory(gpu, len(plan), error)
        LOG.warning("%s; it is built again now", error)
        contexts = open_network(plans.built())
    try:
        with released_on_error():
            return TensorRtEngine(
                gpu,
                spec,
                precision=settings.precision,
                kernels=kernels,
                memory=memory,
                network=contexts,
                n_rings=sizes.n_rings,
            )
    except BaseException:
        contexts.close()
        raise


def _network(
    trt: Any,
    gpu: Gpu,
    plan: bytes,
    *,
    tensors: Sequence[TensorSpec],
    batch_sizes: Sequence[int],
    addresses: Mapping[str, int],
) -> Network:
    engine = None
    runtime = make_object(trt, trt.Runtime)
    try:
        engine = deserialize(trt, runtime, plan, tensors)
        return Network(trt, runtime, engine, gpu, batch_sizes=batch_sizes, addresses=addresses)
    finally:
        del engine, runtime  # in this order; an error's traceback would keep them


def _check_free_memory(gpu: Gpu, plan_bytes: int, refusal: ForeignEngineError) -> None:
    """Where memory is why TensorRT refuses an engine, a new one would fare no better."""
    free_bytes, _ = gpu.free_bytes()
    if free_bytes < 2 * plan_bytes:
        raise UnavailableError(
            f"GPU memory is exhausted: {free_bytes / 1e6:.1f} MB are free for an engine of {plan_bytes / 1e6:.1f} "
            "MB; end other programs on the GPU"
        ) from refusal


class _Plans:
    """One network's serialized engine: the kept one, or a new one."""

    def __init__(
        self,
        trt: Any,
        *,
        model: bytes,
        manifest: Manifest,
        settings: BuildSettings,
        device: Key,
        artifacts: Artifacts | None,
    ) -> None:
        self._trt, self._model, self._inputs = trt, model, manifest.inputs
        self._settings, self._artifacts = settings, artifacts
        self._timing_key: Key = device
        self._key: Key = {
            **device,
            "model": f"{manifest.name} {manifest.version}",
            "onnx_sha256": hashlib.sha256(model).hexdigest(),
            "precision": settings.precision,
            "settings": str(settings),
        }

    def kept_or_built(self) -> bytes:
        """The kept engine where it verifies, or else a new one."""
        if self._artifacts is None:
            return self._build(None)
        plan = self._artifacts.get("engine", self._key)
        if plan is not None:
            LOG.info(
                "engine %s, sha256 %s", self._artifacts.path("engine", self._key), hashlib.sha256(plan).hexdigest()
            )
            return plan
        with self._artifacts.locked():
            # Another process may have built it while this one waited.
            return self._artifacts.get("engine", self._key) or self._build(self._artifacts)

    def built(self) -> bytes:
        """A new one in place of the kept one."""
        if self._artifacts is None:
            return self._build(None)
        with self._artifacts.locked():
            return self._build(self._artifacts)

    def _build(self, artifacts: Artifacts | None) -> bytes:
        began_s = time.monotonic()
        built = build_engine(
            self._trt,
            make_logger(self._trt),
            self._model,
            self._inputs,
            self._settings,
            timings=artifacts.get("timing", self._timing_key) if artifacts else None,
            say=LOG.info,
            check_stop=artifacts.check_stop if artifacts else lambda: None,
        )
        LOG.info("built in %.0f s, %.1f MB", time.monotonic() - began_s, len(built.plan) / 1e6)
        if artifacts:
            artifacts.put("timing", self._timing_key, built.timings)
            artifacts.put("engine", self._key, built.plan)
        return built.plan

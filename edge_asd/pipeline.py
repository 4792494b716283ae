"""Windows of the machines in, anomaly scores out: front end, engine and scorer of one bundle, after its self-test."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any
from weakref import WeakSet

import numpy as np

from edge_asd.artifacts import Artifacts
from edge_asd.blas import one_blas_thread
from edge_asd.bundle import Bundle, Precision
from edge_asd.engine import Engine, Heard, Hop, WaveEngine, Workload, open_engine
from edge_asd.errors import BundleError, EdgeAsdError, EngineError
from edge_asd.score import ClassScorer, ClassScorers
from edge_asd.self_test import check_golden
from edge_asd.types import FeatureSpec, ScorerName, Window
from edge_asd.wave_engine import wave_engine_from

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What the model says of one window.

    score: z, higher is more anomalous; NaN exactly where `fault` says why there is none.
    engine: what computed it, as openvino-int8.
    features_ms, engine_ms: wall time of the front end, and of engine and scorer.
    """

    score: float
    fault: str | None
    engine: str
    features_ms: float
    engine_ms: float

    @property
    def latency_ms(self) -> float:
        """Wall time from the window to its score."""
        return self.features_ms + self.engine_ms


class Ear:
    """Scores the successive windows of one machine; it holds the front end's state between them."""

    def __init__(self, pipeline: Pipeline, scorer: ClassScorer) -> None:
        self._pipeline = pipeline
        self.scorer = scorer
        self.stream: Any = None  # of the hearing that is in use; None until the first window, and after a takeover

    def score(self, window: Window) -> Scored:
        """Score the machine's next window; see `Pipeline.score`."""
        return self._pipeline.score([(self, window)])[0]


class Pipeline:
    """One bundle on one engine, shared by all machines; a context manager that releases the engine.

    Args:
        bundle: the verified model; not kept.
        engine: runs its network.
        take_over: opens another engine, of the same outputs, should this one fail while it runs; None where there is
            none.
        passed_over: names and reasons of engines that were to be used rather and do not work; more may be put into it.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        *,
        take_over: Callable[[], Engine] | None = None,
        passed_over: list[str] | None = None,
    ) -> None:
        self._spec = bundle.manifest.feature_spec
        self._scorers = ClassScorers(bundle)
        self._resources = ExitStack()
        # The front end's products are too small to share out, and BLAS threads would spin against the engine's.
        self._resources.enter_context(one_blas_thread())
        self._resources.callback(self._close_engine)
        self._take_over = take_over
        self._passed_over = [] if passed_over is None else passed_over
        self._ears: WeakSet[Ear] = WeakSet()
        self.engine_failures = 0
        self._use(engine)

    def _use(self, engine: Engine) -> None:
        self._engine = engine
        self._wave_engine = wave_engine_from(engine, self.spec)
        for ear in self._ears:
            ear.stream = None

    @property
    def spec(self) -> FeatureSpec:
        """The front end's numbers, window length and sample rate among them."""
        return self._spec

    @property
    def engine_name(self) -> str:
        """Which engine was chosen."""
        return self._engine.name

    @property
    def precision(self) -> Precision:
        """Of the network that runs."""
        return self._engine.precision

    @property
    def engine(self) -> str:
        """What computes the scores now, with its precision, as openvino-int8."""
        return f"{self.engine_name}-{self.precision}"

    @property
    def engine_trouble(self) -> str | None:
        """Why engines that were to be used rather do not compute; None where the first does."""
        return "; ".join(self._passed_over) or None

    def ear(self, class_name: str, scorer: ScorerName | None = None) -> Ear:
        """A new ear that listens for one class of the bundle, one for each machine.

        Args:
            class_name: TYPE/ID.
            scorer: by which its windows are scored; None is the bundle's own choice.

        Raises:
            BundleError: the bundle has no such class, or cannot score it so.
        """
        return self.ear_with(self._scorers.of(class_name, scorer))

    def ear_with(self, scorer: ClassScorer) -> Ear:
        """A new ear whose windows are scored by `scorer`."""
        ear = Ear(self, scorer)
        self._ears.add(ear)
        return ear

    @property
    def max_batch(self) -> int:
        """How many machines' windows are best scored at once."""
        return self._wave_engine.max_batch

    def score(self, windows: Sequence[tuple[Ear, Window]]) -> list[Scored]:
        """Score the next window of each of up to `max_batch` different machines.

        Audio or outputs that are not finite are no number in disguise: the score is NaN and `fault` says why.

        Should the engine fail, the next one that works takes over, with a warning, and is counted.

        Raises:
            EngineError: the engine has failed, and there is no other.
        """
        try:
            heard = self._heard(windows)
        except EngineError as error:
            self._replace_engine(error)
            heard = self._heard(windows)
        return [self._scored(ear, each) for (ear, _), each in zip(windows, heard, strict=True)]

    def _close_engine(self) -> None:
        self._engine.close()  # whichever runs then

    def _heard(self, windows: Sequence[tuple[Ear, Window]]) -> list[Heard]:
        hops = []
        for ear, window in windows:
            if ear.stream is None:
                ear.stream = self._wave_engine.stream()
            hops.append(Hop(stream=ear.stream, wave=window.wave, fresh_samples=window.fresh_samples))
        size = self._wave_engine.max_batch
        return [each for at in range(0, len(hops), size) for each in self._wave_engine.hear(hops[at : at + size])]

    def _scored(self, ear: Ear, heard: Heard) -> Scored:
        began_s = time.perf_counter()
        score, fault = math.nan, None
        if heard.outputs is None:
            fault = "the sound holds samples that are NaN, infinite or far beyond full scale"
        else:
            found = float(ear.scorer.score(heard.outputs)[0])
            if np.isfinite(heard.outputs.cosine).all() and math.isfinite(found):
                score = found
            else:
                fault = f"the {self._engine.name} engine gave outputs that are not finite for sound that is"
        scorer_ms = 1e3 * (time.perf_counter() - began_s)
        return Scored(
            score=score,
            fault=fault,
            engine=self.engine,
            features_ms=heard.features_ms,
            engine_ms=heard.engine_ms + scorer_ms,
        )

    def _replace_engine(self, error: EngineError) -> None:
        if self._take_over is None:
            raise error
        failed = self._engine.name
        self._engine.close()
        try:
            engine = self._take_over()
        except EdgeAsdError as refusal:
            raise EngineError(f"the {failed} engine has failed: {error}; and no other takes over: {refusal}") from error
        self._take_over = None
        self._passed_over.append(f"{failed}: it has failed: {error}")
        self._use(engine)
        self.engine_failures += 1
        LOG.warning("the %s engine has failed: %s; %s takes over until the next start", failed, error, engine.name)

    def close(self) -> None:
        """Release the engine; its ears are of no use from then on."""
        self._resources.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_pipeline(
    bundle: Bundle,
    *,
    prefer: Sequence[str],
    precision: Precision,
    threads: int | None = None,
    workload: Workload | None = None,
    artifacts: Artifacts | None = None,
) -> Pipeline:
    """Open the first engine that works and make sure of its results with the bundle's golden windows.

    While the pipeline is open, BLAS computes with one thread in the whole process.

    Args:
        bundle: the verified model; kept while an engine of the GPU runs and `prefer` names another behind it.
        prefer: engine names, best first.
        precision: of the network.
        threads: that the engine computes with; None or 0 is one for each core.
        workload: what an engine that takes all its memory at the start must be ready for.
        artifacts: keeps what takes long to build.

    Raises:
        UsageError: prefer is empty or names an engine that does not exist.
        UnavailableError: no engine works here.
        BundleError: the self-test fails on each engine, or the bundle's only class has no others to be compared with.
        EngineError: the last engine fails in the self-test.
    """
    passed_over: list[str] = []

    def opened(names: Sequence[str]) -> Engine:
        engine = open_engine(
            bundle,
            prefer=names,
            precision=precision,
            threads=threads,
            workload=workload,
            artifacts=artifacts,
            passed_over=passed_over,
        )
        others = _behind(engine, names)
        try:
            check_golden(bundle, engine)
        except (BundleError, EngineError) as error:
            engine.close()
            if not others:
                raise
            LOG.warning("engine %s is not taken: %s; trying %s", engine.name, error, others[0])
            passed_over.append(f"{engine.name}: {error}")
            return opened(others)
        except BaseException:
            engine.close()
            raise
        return engine

    engine = opened(prefer)
    knn = bundle.manifest.knn
    if knn is not None and knn.precision != precision:
        LOG.warning("memories of healthy sound are of the %s network, and %s runs: its distances to them are a little "
                    "larger", knn.precision, precision)  # fmt: skip
    others = _behind(engine, prefer)
    # What runs on the CPU has no fault of a GPU to be relieved from.
    is_on_gpu = isinstance(engine, WaveEngine)
    take_over = partial(opened, others) if others and is_on_gpu else None
    return Pipeline(bundle, engine, take_over=take_over, passed_over=passed_over)


def _behind(engine: Engine, names: Sequence[str]) -> Sequence[str]:
    """Engines that are named behind this one."""
    return names[list(names).index(engine.name) + 1 :]

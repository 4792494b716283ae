"""Windows of the machines in, anomaly scores out: front end, engine and scorer of one bundle, after its self-test."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from threadpoolctl import threadpool_limits

from edge_asd.bundle import Bundle, Precision
from edge_asd.engine import Engine, open_engine
from edge_asd.errors import BundleError
from edge_asd.features import LogMelStream, log_mel_db
from edge_asd.score import MarginScorer
from edge_asd.types import FeatureSpec, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What the model says of one window.

    score: z, higher is more anomalous; NaN exactly where `fault` says why there is none.
    features_ms, engine_ms: wall time of the front end, and of engine and scorer.
    """

    score: float
    fault: str | None
    features_ms: float
    engine_ms: float

    @property
    def latency_ms(self) -> float:
        """Wall time from the window to its score."""
        return self.features_ms + self.engine_ms


class Ear:
    """Scores the successive windows of one machine as one class; it holds the front end's state between them."""

    def __init__(self, *, engine: Engine, scorer: MarginScorer, class_index: int, spec: FeatureSpec) -> None:
        self._engine = engine
        self._scorer = scorer
        self._class_index = class_index
        self._front_end = LogMelStream(spec)

    def score(self, window: Window) -> Scored:
        """Score the machine's next window.

        Audio or outputs that are not finite are no number in disguise: the score is NaN and `fault` says why.
        """
        began_s = time.perf_counter()
        log_mel = self._front_end.log_mel_db(window.wave, window.fresh_samples)
        features_done_s = time.perf_counter()
        score, fault = math.nan, None
        # Every sample is within a frame: NaN, infinity and what overflows float32 all show in the log-mel.
        if not np.isfinite(log_mel).all():
            fault = "the sound holds samples that are NaN, infinite or far beyond full scale"
        else:
            outputs = self._engine.infer(window.wave[np.newaxis], log_mel[np.newaxis])
            if np.isfinite(outputs.cosine).all():
                score = float(self._scorer.score(outputs.cosine, self._class_index)[0])
            else:
                fault = f"the {self._engine.name} engine gave outputs that are not finite for sound that is"
        return Scored(
            score=score,
            fault=fault,
            features_ms=1e3 * (features_done_s - began_s),
            engine_ms=1e3 * (time.perf_counter() - features_done_s),
        )


class Pipeline:
    """One bundle on one engine, shared by all machines; a context manager that releases the engine."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self._manifest = bundle.manifest
        self._engine = engine
        scorer = bundle.manifest.scorer
        try:
            self._scorer = MarginScorer(scorer.scale, scorer.margin, n_classes=len(bundle.manifest.classes))
        except ValueError as error:
            raise BundleError(f"{bundle.path}: {error}") from error
        self._resources = ExitStack()
        self._resources.enter_context(engine)
        # The front end's products are too small to share out, and BLAS threads would spin against the engine's.
        self._resources.enter_context(threadpool_limits(limits=1, user_api="blas"))

    @property
    def spec(self) -> FeatureSpec:
        """The front end's numbers, window length and sample rate among them."""
        return self._manifest.feature_spec

    @property
    def engine_name(self) -> str:
        """Which engine was chosen."""
        return self._engine.name

    @property
    def precision(self) -> Precision:
        """Of the network that runs."""
        return self._engine.precision

    def ear(self, class_name: str) -> Ear:
        """A new ear that listens for one class, one for each machine.

        Raises:
            BundleError: the bundle has no such class.
        """
        return Ear(
            engine=self._engine,
            scorer=self._scorer,
            class_index=self._manifest.class_index(class_name),
            spec=self._manifest.feature_spec,
        )

    def check_golden(self, bundle: Bundle) -> None:
        """Run the bundle's golden windows through front end, engine and scorer.

        Raises:
            BundleError: a result is further from the golden value than the bundle allows; the message has the numbers.
        """
        golden, allowed = bundle.golden, bundle.manifest.golden_tolerance
        engine_allowed = allowed.int8 if self._engine.precision == "int8" else allowed.fp32
        log_mel = log_mel_db(golden.wave, self.spec)
        outputs = self._engine.infer(golden.wave, log_mel)
        score = self._scorer.score(outputs.cosine, golden.label)
        lengths = np.linalg.norm(outputs.embedding, axis=1) * np.linalg.norm(golden.embedding, axis=1)
        log_mel_difference_db = float(np.abs(log_mel - golden.log_mel).max())
        embedding_cosine = float(((outputs.embedding * golden.embedding).sum(axis=1) / lengths).min())
        score_difference = float(np.abs(score - golden.score).max())
        # Written so that NaN fails.
        if not (
            log_mel_difference_db <= allowed.max_log_mel_difference_db
            and embedding_cosine >= engine_allowed.min_embedding_cosine
            and score_difference <= engine_allowed.max_score_difference
        ):
            raise BundleError(
                f"{bundle.path}: the self-test on its golden windows fails with {self.engine_name} {self.precision}: "
                f"log-mel differs by {log_mel_difference_db:.2g} dB "
                f"(expected at most {allowed.max_log_mel_difference_db:g}), "
                f"embedding cosine {embedding_cosine:.5f} (at least {engine_allowed.min_embedding_cosine:g}), "
                f"score differs by {score_difference:.3g} (at most {engine_allowed.max_score_difference:g}); "
                "try another engine or precision, or export the bundle again"
            )

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
    bundle: Bundle, *, prefer: Sequence[str], precision: Precision, threads: int | None = None
) -> Pipeline:
    """Open the first engine that works and make sure of its results with the bundle's golden windows.

    While the pipeline is open, BLAS computes with one thread in the whole process.

    Args:
        bundle: the verified model; not kept.
        prefer: engine names, best first.
        precision: of the network.
        threads: that the engine computes with; None or 0 is one for each core.

    Raises:
        UsageError: prefer is empty or names an engine that does not exist.
        UnavailableError: no engine works here.
        BundleError: the self-test fails, or the bundle's only class has no others to be compared with.
    """
    pipeline = Pipeline(bundle, open_engine(bundle, prefer=prefer, precision=precision, threads=threads))
    try:
        pipeline.check_golden(bundle)
    except BaseException:
        pipeline.close()
        raise
    return pipeline

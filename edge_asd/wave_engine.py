"""An engine in, one that takes waves out: with the numpy front end before it where it has none of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_asd.engine import Engine, Heard, Hop, WaveEngine
from edge_asd.features import LogMelStream, log_mel_db
from edge_asd.types import FeatureSpec, FloatArray


def wave_engine_from(engine: Engine, spec: FeatureSpec) -> WaveEngine[Any]:
    """The engine itself where it brings a front end."""
    return engine if isinstance(engine, WaveEngine) else CpuWaveEngine(engine, spec)


class CpuWaveEngine:
    """The front end in numpy beside an engine that has none of its own (see `edge_asd.engine.WaveEngine`)."""

    max_batch = 1

    def __init__(self, engine: Engine, spec: FeatureSpec) -> None:
        self._engine = engine
        self._spec = spec

    def stream(self) -> LogMelStream:
        """What one machine's frames are kept in."""
        return LogMelStream(self._spec)

    def hear(self, hops: Sequence[Hop[LogMelStream]]) -> list[Heard]:
        """Outputs of each hop."""
        return [self._hear(hop) for hop in hops]

    def log_mel_db(self, wave: FloatArray) -> FloatArray:
        """Log-mel (n_mels, n_frames) of one whole window."""
        return log_mel_db(wave, self._spec)

    def _hear(self, hop: Hop[LogMelStream]) -> Heard:
        began_s = time.perf_counter()
        log_mel = hop.stream.log_mel_db(hop.wave, hop.fresh_samples)
        features_done_s = time.perf_counter()
        # Every sample is within a frame: NaN, infinity and what overflows float32 all show in the log-mel.
        is_finite = bool(np.isfinite(log_mel).all())
        outputs = self._engine.infer(hop.wave[np.newaxis], log_mel[np.newaxis]) if is_finite else None
        return Heard(
            outputs=outputs,
            features_ms=1e3 * (features_done_s - began_s),
            engine_ms=1e3 * (time.perf_counter() - features_done_s),
        )

"""A bundle and an engine in, nothing out: or the numbers by which its golden windows come out wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_asd.bundle import Bundle
from edge_asd.engine import Engine, Hop, WaveEngine
from edge_asd.errors import BundleError
from edge_asd.score import ClassScorers, KnnScorer
from edge_asd.types import EngineOutputs, FloatArray
from edge_asd.wave_engine import wave_engine_from


def check_golden(bundle: Bundle, engine: Engine) -> None:
    """Run the bundle's golden windows through front end, engine and scorer, alone and in all sizes of batches.

    Raises:
        BundleError: a result is further from the golden value than the bundle allows; the message has the numbers.
        EngineError: the engine has failed.
    """
    manifest = bundle.manifest
    scorers = ClassScorers(bundle)
    wave_engine = wave_engine_from(engine, manifest.feature_spec)
    golden, allowed = bundle.golden, bundle.manifest.golden_tolerance
    engine_allowed = allowed.of(engine.precision)
    log_mel = np.stack([wave_engine.log_mel_db(wave) for wave in golden.wave])
    log_mel_difference_db = float(np.abs(log_mel - golden.log_mel).max())
    # TensorRT 8.6 reads some networks wrongly for more than one window, without a word: NVIDIA/TensorRT issue 3467.
    for batch_size in _batch_sizes(wave_engine.max_batch):
        # The golden windows, over and over until they fill batches: each place of a batch is checked.
        n_windows = batch_size * -(-len(golden.wave) // batch_size)
        repeated = np.arange(n_windows) % len(golden.wave)
        outputs = _heard(wave_engine, golden.wave[repeated], batch_size)
        embedding, expected = outputs.embedding, golden.embedding[repeated]
        score = scorers.margin.score(outputs.cosine, golden.label[repeated])
        lengths = np.linalg.norm(embedding, axis=1) * np.linalg.norm(expected, axis=1)
        embedding_cosine = float(((embedding * expected).sum(axis=1) / lengths).min())
        score_difference = float(np.abs(score - golden.score[repeated]).max())
        # Written so that NaN fails.
        if not (
            log_mel_difference_db <= allowed.max_log_mel_difference_db
            and embedding_cosine >= engine_allowed.min_embedding_cosine
            and score_difference <= engine_allowed.max_score_difference
        ):
            batches = f" in batches of {batch_size}" if batch_size > 1 else ""
            raise BundleError(
                f"{bundle.path}: the self-test on its golden windows{batches} fails with {engine.name} "
                f"{engine.precision}: log-mel differs by {log_mel_difference_db:.2g} dB "
                f"(expected at most {allowed.max_log_mel_difference_db:g}), "
                f"embedding cosine {embedding_cosine:.5f} (at least {engine_allowed.min_embedding_cosine:g}), "
                f"score differs by {score_difference:.3g} (at most {engine_allowed.max_score_difference:g}); "
                "try another engine or precision, or export the bundle again"
            )
        _check_memories(bundle, outputs, engine, repeated)


def _batch_sizes(largest: int) -> list[int]:
    """1, 2, 4 ... and the largest: what an engine has recorded of its own for each of them is run before it serves."""
    return sorted({largest, *(1 << power for power in range(largest.bit_length()))})


def _heard(wave_engine: WaveEngine[Any], waves: FloatArray, batch_size: int) -> EngineOutputs:
    """Outputs of each window, heard as a machine's first, in batches."""
    hops = [Hop(stream=wave_engine.stream(), wave=wave, fresh_samples=wave.size) for wave in waves]
    batches = [hops[at : at + batch_size] for at in range(0, len(hops), batch_size)]
    heard = [each.outputs for batch in batches for each in wave_engine.hear(batch)]
    finite = [each for each in heard if each]
    if len(finite) < len(heard):
        raise BundleError(
            f"the front end makes no finite log-mel of {len(heard) - len(finite)} of {len(heard)} golden windows in "
            f"batches of {batch_size}; expected one of each; try another engine, or export the bundle again"
        )
    return EngineOutputs.joined(finite)


def _check_memories(bundle: Bundle, outputs: EngineOutputs, engine: Engine, repeated: NDArray[np.intp]) -> None:
    """Score the golden windows by each memory; repeated: which of them each output is of.

    By the triangle inequality a distance changes by no more than the vector does, and a score by that over the
    deviation of healthy distances.

    Raises:
        BundleError: a memory is further from the windows, or nearer, than the bundle allows.
    """
    manifest, golden_score = bundle.manifest, bundle.golden.knn_score
    allowed = manifest.golden_tolerance.of(engine.precision).max_vector_distance
    if manifest.knn is None or golden_score is None or allowed is None:
        return
    for column, (class_name, section) in enumerate(manifest.knn.memories.items()):
        score = KnnScorer(bundle.memories[class_name], section.fit).score(outputs)
        deviation = min(spread.std for spread in (section.fit.source, section.fit.target) if spread)
        difference = deviation * float(np.abs(score - golden_score[repeated, column]).max())
        if not difference <= allowed:  # NaN fails
            raise BundleError(
                f"{bundle.path}: the self-test on its golden windows fails with {engine.name} {engine.precision}: "
                f"distance to the memory of {class_name} differs by {difference:.3g} (expected at most {allowed:.3g}); "
                "try another engine or precision, or export the bundle again"
            )

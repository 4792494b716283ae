"""Engine outputs in, how far they lie from a machine's memory of healthy sound out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_asd.bundle.memory import MIXES_PER_TARGET, KnnFit, Memory, Spread
from edge_asd.errors import BundleError
from edge_asd.score.search import NearestNeighbours
from edge_asd.types import EngineOutputs, FloatArray, Layer, ScorerName

TARGET_SHARE = 0.9  # of the target vector in MemMixup
_SHORTEST = 1e-12


class KnnScorer:
    """Scores by the distance to the nearest healthy sound, in standard deviations of what healthy sound has.

    The distance to each domain's memory is z-scored by that domain's leave-one-out distances, and the lower counts.

    Args:
        memory: of the machine.
        fit: of that memory.

    Raises:
        ValueError: `fit` is of another memory, or averages more neighbours than a domain has.

    Source: GenRep (Saengthong and Shinozaki, 2024), with statistics that no test clip has a part in.
    """

    name: ScorerName = "knn"

    def __init__(self, memory: Memory, fit: KnnFit) -> None:
        fit.check(memory)
        self._layer = memory.encoder.layer
        self._k = fit.k
        self._domains: list[tuple[NearestNeighbours, Spread]] = [
            (NearestNeighbours(domain_memory(memory, is_target=is_target)[0]), spread)
            for is_target, spread in ((False, fit.source), (True, fit.target))
            if spread is not None
        ]

    def score(self, outputs: EngineOutputs) -> FloatArray:
        """Anomaly scores (B,) float32; NaN where the layer's vector holds NaN.

        Raises:
            BundleError: the network does not put out the memory's layer.
        """
        return self.score_vectors(layer_vectors(outputs, self._layer))

    def score_vectors(self, vectors: FloatArray) -> FloatArray:
        """The same of vectors (B, d) of the layer."""
        by_domain = [
            (neighbours.distances(vectors, self._k).mean(axis=1) - spread.mean) / spread.std
            for neighbours, spread in self._domains
        ]
        scores: FloatArray = np.min(by_domain, axis=0).astype(np.float32)
        return scores


def layer_vectors(outputs: EngineOutputs, layer: Layer) -> FloatArray:
    """Vectors (B, d) of the layer that memories are made of, brought to unit length.

    OpenVINO folds the last scale of a quantized network elsewhere: its embeddings point where they should but are about
    5 long, and a memory that another engine made would be far from all of them. A feature map's length tells how loud
    the sound is.

    Raises:
        BundleError: the network does not put it out.
    """
    vectors = outputs.embedding if layer == "embedding" else outputs.feature_map
    if vectors is None:
        raise BundleError(
            f"the network has no output {layer}; expected one, since the memory is of that layer; export the model "
            "again, since all put it out now, or make the memory of the embedding"
        )
    length = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    unit: FloatArray = (vectors / np.maximum(length, _SHORTEST)).astype(np.float32)
    return unit


def domain_memory(memory: Memory, *, is_target: bool) -> tuple[FloatArray, NDArray[np.int64]]:
    """Vectors (n, d) that one domain is compared with, and the group (n,) of each.

    Beside the target vectors stand mixes of each with its nearest source vectors, in the group of the target vector, so
    that a scarce domain covers more than a few points.

    Source: MemMixup of GenRep (Saengthong and Shinozaki, 2024).
    """
    rows = memory.is_target == is_target
    vectors, group = memory.vectors[rows], memory.group[rows]
    source = memory.vectors[~memory.is_target]
    if not is_target or not len(vectors) or not len(source):
        return vectors, group
    n_mixes = min(MIXES_PER_TARGET, len(source))
    squared = np.square(source).sum(axis=1) - 2.0 * vectors @ source.T  # (targets, sources) less a constant a row
    nearest = np.argsort(squared, axis=1, kind="stable")[:, :n_mixes]
    mixes = TARGET_SHARE * vectors[:, np.newaxis] + (1.0 - TARGET_SHARE) * source[nearest]  # (targets, n_mixes, d)
    return (
        np.concatenate([vectors, mixes.reshape(-1, vectors.shape[1]).astype(np.float32)]),
        np.concatenate([group, np.repeat(group, n_mixes)]),
    )

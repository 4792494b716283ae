"""What a method makes of memory and test in, anomaly scores of the test out, by the name of the scorer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from edge_asd.bundle.memory import Encoder, memory_from_vectors
from edge_asd.score.build import fit_memory
from edge_asd.score.knn import KnnScorer
from edge_asd.types import FeatureSpec, FloatArray

_ENCODER = Encoder(sha256="", precision="fp32", layer="embedding", feature_spec=FeatureSpec())
ENROLLED = (10, 30, 100)
"""Mixtures that a machine is enrolled from, which the network was not trained on."""
_LEAST_STD = 1e-6  # of scores that are all alike

Scores: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What a method gives for N windows.

    class_names: (N,) as which each is scored. layers: (N, size) each, by name, to be near or far from one another. own:
    (N,) the method's own anomaly score; None where it has none. groups: (N,) recordings, where a scorer needs them.
    """

    class_names: tuple[str, ...]
    layers: Mapping[str, FloatArray]
    own: Scores | None = None
    groups: tuple[str, ...] = ()


Scorer: TypeAlias = Callable[[Outputs, Outputs], Scores]
"""Memory and test -> (N,) scores of the test, higher is more anomalous."""


def own_score(memory: Outputs, test: Outputs) -> Scores:  # noqa: ARG001 - of a Scorer
    """The method's own score."""
    if test.own is None:
        raise ValueError("the method gives no score of its own; expected one that does")
    return test.own


def nearest(
    memory: Outputs, test: Outputs, *, layer: str, n_remembered: int | None = None, unit: bool = False
) -> Scores:
    """Euclidean distance to the nearest in the memory of the same class.

    n_remembered: of the memory of each class so many, drawn by chance; None: all. unit: vectors are brought to unit
    length ahead, as a device does.
    """
    scores = np.empty(len(test.class_names))
    remembered, asked = np.array(memory.class_names), np.array(test.class_names)
    known_vectors, asked_vectors = (
        normalize(outputs.layers[layer]) if unit else outputs.layers[layer] for outputs in (memory, test)
    )
    for name in np.unique(asked):
        known = np.flatnonzero(remembered == name)
        if n_remembered is not None and n_remembered > len(known):
            raise ValueError(f"{len(known)} mixtures of {name} to remember; expected {n_remembered} or more")
        known = np.random.default_rng(0).permutation(known)[:n_remembered]
        neighbours = NearestNeighbors(n_neighbors=1).fit(known_vectors[known])
        distances, _ = neighbours.kneighbors(asked_vectors[asked == name])
        scores[asked == name] = distances[:, 0]
    return scores


def fused(memory: Outputs, test: Outputs) -> Scores:
    """The device's fusion: own score and distance of the embedding, each in deviations of what the memory has.

    Distances within the memory pass over the same recording.
    """
    if memory.own is None or test.own is None:
        raise ValueError("the method gives no score of its own; expected one that does")
    scores = np.empty(len(test.class_names))
    remembered, asked = np.array(memory.class_names), np.array(test.class_names)
    groups = np.unique(np.array(memory.groups), return_inverse=True)[1].astype(np.int64)
    for name in np.unique(asked):
        known, heard = remembered == name, asked == name
        vectors = normalize(memory.layers["embedding"][known])
        healthy = memory_from_vectors(vectors, _ENCODER, group=groups[known])
        distance = KnnScorer(healthy, fit_memory(healthy, healthy))
        own = (test.own[heard] - memory.own[known].mean()) / max(memory.own[known].std(ddof=1), _LEAST_STD)
        scores[heard] = (own + distance.score_vectors(normalize(test.layers["embedding"][heard]))) / 2.0
    return scores


SCORERS: Mapping[str, Scorer] = {
    "margin": own_score,
    "error": own_score,
    "k-NN": functools.partial(nearest, layer="embedding"),
    "k-NN map": functools.partial(nearest, layer="feature_map"),
    "k-NN unit map": functools.partial(nearest, layer="feature_map", unit=True),
    "fusion": fused,
    **{f"k-NN of {n}": functools.partial(nearest, layer="embedding", n_remembered=n) for n in ENROLLED},
    **{
        f"k-NN unit map of {n}": functools.partial(nearest, layer="feature_map", n_remembered=n, unit=True)
        for n in ENROLLED
    },
}
"""margin: z of the class. error: of a reconstruction. k-NN: nearest by the embedding, or by the map over time, as it is
or of unit length (of which the embedding is)."""

WITHOUT_MEMORY = ("margin", "error")
"""Those for which a memory need not be made."""

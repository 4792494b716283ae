"""What a method makes of memory and test in, anomaly scores of the test out, by the name of the scorer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from edge_asd.types import FloatArray

Scores: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What a method gives for N windows.

    class_names: (N,) as which each is scored. layers: (N, size) each, by name, to be near or far from one another. own:
    (N,) the method's own anomaly score; None where it has none.
    """

    class_names: tuple[str, ...]
    layers: Mapping[str, FloatArray]
    own: Scores | None = None


Scorer: TypeAlias = Callable[[Outputs, Outputs], Scores]
"""Memory and test -> (N,) scores of the test, higher is more anomalous."""


def own_score(memory: Outputs, test: Outputs) -> Scores:  # noqa: ARG001 - of a Scorer
    """The method's own score."""
    if test.own is None:
        raise ValueError("the method gives no score of its own; expected one that does")
    return test.own


def nearest(memory: Outputs, test: Outputs, *, layer: str) -> Scores:
    """Euclidean distance to the nearest in the memory of the same class."""
    scores = np.empty(len(test.class_names))
    remembered, asked = np.array(memory.class_names), np.array(test.class_names)
    for name in np.unique(asked):
        neighbours = NearestNeighbors(n_neighbors=1).fit(memory.layers[layer][remembered == name])
        distances, _ = neighbours.kneighbors(test.layers[layer][asked == name])
        scores[asked == name] = distances[:, 0]
    return scores


SCORERS: Mapping[str, Scorer] = {
    "margin": own_score,
    "error": own_score,
    "k-NN": functools.partial(nearest, layer="embedding"),
    "k-NN map": functools.partial(nearest, layer="feature_map"),
}
"""margin: z of the class. error: of a reconstruction. k-NN: nearest by the embedding, or by the map over time."""

WITHOUT_MEMORY = ("margin", "error")
"""Those for which a memory need not be made."""

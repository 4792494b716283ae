"""Vectors and a number in, the rows of that many of them that lie near all others out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_asd.types import FloatArray


def coreset_rows(vectors: FloatArray, n_rows: int) -> NDArray[np.intp]:
    """Rows of vectors (n, d) chosen by greedy k-centre, in the order of their choice; all of them where n is no more.

    It begins with the vector nearest to the mean and adds the one farthest from those chosen. No vector is then farther
    from the chosen ones than twice what the best choice of as many could reach.

    Raises:
        ValueError: n_rows is below 1.

    Source: Gonzalez, Clustering to minimize the maximum intercluster distance (1985).
    """
    if n_rows < 1:
        raise ValueError(f"a coreset of {n_rows} rows; expected 1 or more")
    if len(vectors) <= n_rows:
        return np.arange(len(vectors))
    exact = vectors.astype(np.float64)
    squared_length = np.einsum("nd,nd->n", exact, exact)
    farthest = int(np.argmin(squared_length - 2.0 * exact @ exact.mean(axis=0)))
    squared = np.full(len(vectors), np.inf)  # distance of each to the nearest chosen one
    rows = np.empty(n_rows, dtype=np.intp)
    for index in range(n_rows):
        rows[index] = farthest
        to_new = squared_length + squared_length[farthest] - 2.0 * exact @ exact[farthest]
        to_new[farthest] = 0.0
        squared = np.minimum(squared, to_new)
        squared[farthest] = -np.inf  # never twice, though a copy may be chosen once nothing else is left
        farthest = int(np.argmax(squared))
    return rows

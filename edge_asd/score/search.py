"""Vectors in, their exact distances to the nearest of a memory out, by a blocked matrix product."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_asd.types import FloatArray

Distances = NDArray[np.float64]
# Of one block of products, in float32: 16 MB.
BLOCK_ELEMENTS = 2**22
_UNIT_ROUNDOFF = 2.0**-24
_LARGEST_PRODUCT = 1e37  # a tenth of what float32 holds


class NearestNeighbours:
    """Exact search in a set of vectors (n, d) float32, n 1 or more.

    A matrix product in float32 tells the candidates, with a bound on its rounding; their distances are then computed in
    float64 from the differences. So the result depends neither on the order of the vectors nor on block sizes.
    """

    def __init__(self, vectors: FloatArray, *, block_elements: int = BLOCK_ELEMENTS) -> None:
        self._vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        squared = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
        with np.errstate(over="ignore"):  # such vectors are compared in float64 alone
            self._half_squared = (squared / 2.0).astype(np.float32)  # (n,)
        self._longest = float(np.sqrt(squared.max()))
        # Of the product of the lengths: how far a value of `half` may be from the real one. Source: Higham, Accuracy
        # and Stability of Numerical Algorithms (2002), section 3.1, for an inner product of d terms and two sums.
        rounding = (vectors.shape[1] + 2) * _UNIT_ROUNDOFF
        self._rounding_share = rounding / (1.0 - rounding)
        self._block_elements = block_elements

    def distances(
        self,
        queries: FloatArray,
        k: int,
        *,
        query_group: NDArray[np.int64] | None = None,
        group: NDArray[np.int64] | None = None,
    ) -> Distances:
        """Euclidean distances (B, k) of queries (B, d) to their k nearest vectors, rising; NaN of queries with NaN.

        Args:
            queries: (B, d) float32.
            k: 1 to n.
            query_group: (B,); with `group` (n,), vectors of a query's own group are passed over. Where fewer than k
                are then left, the missing distances are infinite.
            group: of the vectors.
        """
        distances = np.full((len(queries), k), np.nan)
        rows = max(1, self._block_elements // len(self._vectors))
        for start in range(0, len(queries), rows):
            block = queries[start : start + rows]
            # Half the squared distance less half the query's squared length: ranks as the distance.
            with np.errstate(over="ignore", invalid="ignore"):
                half = self._half_squared - block @ self._vectors.T  # (rows, n)
            for row, query in enumerate(block):
                allowed = None
                if query_group is not None and group is not None:
                    allowed = group != query_group[start + row]
                if np.isfinite(query).all():
                    distances[start + row] = self._exact(query, half[row], k, allowed)
        return distances

    def _exact(self, query: FloatArray, half: FloatArray, k: int, allowed: NDArray[np.bool_] | None) -> Distances:
        if allowed is not None:
            half = np.where(allowed, half, np.inf)
        kth = float(half.min() if k == 1 else np.partition(half, k - 1)[k - 1])
        largest = self._longest * (self._longest + float(np.linalg.norm(query.astype(np.float64))))
        if largest < _LARGEST_PRODUCT and np.isfinite(kth):
            candidates = np.flatnonzero(half <= kth + 2.0 * self._rounding_share * largest)
        else:  # float32 may have overflowed, or fewer than k are allowed
            candidates = np.arange(len(half)) if allowed is None else np.flatnonzero(allowed)
        differences = self._vectors[candidates].astype(np.float64) - query  # (candidates, d)
        nearest = np.sort(np.sqrt(np.square(differences).sum(axis=1)))[:k]
        return np.concatenate([nearest, np.full(k - len(nearest), np.inf)])


def nearest_distances(vectors: FloatArray, queries: FloatArray, k: int = 1) -> Distances:
    """Euclidean distances (B, k) of queries (B, d) to their k nearest of vectors (n, d), rising."""
    return NearestNeighbours(vectors).distances(queries, k)

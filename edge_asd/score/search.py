"""Vectors in, their exact distances to the nearest of a memory out, by a blocked matrix product."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_asd.types import FloatArray

Distances = NDArray[np.float64]
# Of one block of products, in float32: 16 MB.
BLOCK_ELEMENTS = 2**22
_UNIT_ROUNDOFF = 2.0**-24
_SMALLEST_NORMAL = 2.0**-126
_BLOCK_CANDIDATES = 256  # so that their differences stay in the cache
_LARGEST_PRODUCT = 1e37  # a tenth of what float32 holds


class NearestNeighbours:
    """Exact search in a set of vectors (n, d) float32, n 1 or more.

    A matrix product in float32 tells the candidates, with a bound on its rounding; their distances are then computed in
    float64 from the differences. So the result depends neither on the order of the vectors nor on block sizes.

    The product is of differences from the vectors' mean: its rounding, and with it the number of candidates, goes by
    how far the vectors lie apart rather than by how long they are.
    """

    def __init__(self, vectors: FloatArray, *, block_elements: int = BLOCK_ELEMENTS) -> None:
        self._vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self._mean = self._vectors.mean(axis=0, dtype=np.float64)  # (d,)
        with np.errstate(over="ignore"):  # such vectors are compared in float64 alone
            self._centred = (self._vectors - self._mean).astype(np.float32)  # (n, d)
            squared = np.einsum("nd,nd->n", self._centred, self._centred, dtype=np.float64)
            self._half_squared = (squared / 2.0).astype(np.float32)  # (n,)
        self._length = np.sqrt(squared)  # (n,)
        # How far a value of `half` may be from the real one, in products of lengths. Source: Higham, Accuracy and
        # Stability of Numerical Algorithms (2002), section 3.1, for an inner product of d terms, two sums, and two
        # factors that were rounded themselves.
        rounding = (vectors.shape[1] + 5) * _UNIT_ROUNDOFF
        self._rounding_share = rounding / (1.0 - rounding)
        self._underflow = (vectors.shape[1] + 5) * _SMALLEST_NORMAL
        self._block_elements = block_elements

    def distances(
        self,
        queries: FloatArray,
        k: int,
        *,
        query_group: NDArray[np.int64] | None = None,
        group: NDArray[np.int64] | None = None,
        n_beside: int = 0,
    ) -> Distances:
        """Euclidean distances (B, k) of queries (B, d) to their k nearest vectors, rising; NaN of queries with NaN.

        Where there are fewer than k vectors, the missing distances are infinite.

        Args:
            queries: (B, d) float32.
            k: 1 or more.
            query_group: (B,); with `group` (n,), vectors of a query's own group are passed over.
            group: of the vectors.
            n_beside: groups numbered at most so much lower or higher than the query's are passed over, too.
        """
        distances = np.full((len(queries), k), np.nan)
        rows = max(1, self._block_elements // len(self._vectors))
        for start in range(0, len(queries), rows):
            block = queries[start : start + rows]
            # Half the squared distance less half the query's squared length: ranks as the distance.
            with np.errstate(over="ignore", invalid="ignore"):
                centred = (block - self._mean).astype(np.float32)
                half = self._half_squared - centred @ self._centred.T  # (rows, n)
            for row, query in enumerate(block):
                allowed = None
                if query_group is not None and group is not None:
                    allowed = np.abs(group - query_group[start + row]) > n_beside
                if np.isfinite(query).all():
                    length = float(np.linalg.norm(centred[row].astype(np.float64)))
                    candidates = self._candidates(half[row], length, k, allowed)
                    distances[start + row] = self._exact(query, candidates, k)
        return distances

    def _candidates(
        self, half: FloatArray, query_length: float, k: int, allowed: NDArray[np.bool_] | None
    ) -> NDArray[np.intp]:
        """Rows among which the k nearest are."""
        rows = np.arange(len(half)) if allowed is None else np.flatnonzero(allowed)
        largest = self._length[rows] * (self._length[rows] + query_length)
        if len(rows) <= k or not largest.max() < _LARGEST_PRODUCT:  # float32 may have overflowed
            return rows
        doubt = self._rounding_share * largest + self._underflow
        kth = np.partition(half[rows] + doubt, k - 1)[k - 1]
        candidates: NDArray[np.intp] = rows[half[rows] - doubt <= kth]
        return candidates

    def _exact(self, query: FloatArray, candidates: NDArray[np.intp], k: int) -> Distances:
        squared = np.empty(len(candidates))
        for start in range(0, len(candidates), _BLOCK_CANDIDATES):
            block = candidates[start : start + _BLOCK_CANDIDATES]
            differences = self._vectors[block].astype(np.float64) - query  # (candidates, d)
            squared[start : start + _BLOCK_CANDIDATES] = np.square(differences).sum(axis=1)
        nearest = np.sqrt(np.sort(squared)[:k])
        return np.concatenate([nearest, np.full(k - len(nearest), np.inf)])


def nearest_distances(vectors: FloatArray, queries: FloatArray, k: int = 1) -> Distances:
    """Euclidean distances (B, k) of queries (B, d) to their k nearest of vectors (n, d), rising."""
    return NearestNeighbours(vectors).distances(queries, k)

"""Exact search among the healthy sound of a machine, as a device does it for each window, against scikit-learn.

`python -m benchmarks.knn [--quick] [--json FILE]`. One query at a time, one thread, as beside an engine; the
contestants take turns. `numpy-10000x128-k1` is the case that a device must answer within 1 ms; feature maps are 1024
long.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from benchmarks.report import print_table, write_report
from edge_asd.score.search import NearestNeighbours
from edge_asd.types import FloatArray

# Vectors, their size, neighbours.
_CASES = ((1_000, 128, 1), (10_000, 128, 1), (10_000, 128, 5), (10_000, 1_024, 1))
_REFERENCE = "scikit-learn"
_N_QUERIES = 64
_PER_TURN = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.knn", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a few searches each")
    parser.add_argument("--json", type=Path, help="where to write the results (default: benchmarks/results)")
    options = parser.parse_args(arguments)
    with threadpool_limits(limits=1):  # scikit-learn's OpenMP too
        contestants = measure(n_turns=3 if options.quick else 100)
    ratios = {
        name: figures["p50_ms"] / contestants[name.replace("numpy", _REFERENCE, 1)]["p50_ms"]
        for name, figures in contestants.items()
        if name.startswith("numpy")
    }
    print_table("knn", contestants, ratios)
    write_report("knn", contestants, ratios, path=options.json)
    return 0


def measure(*, n_turns: int) -> dict[str, dict[str, float]]:
    """Percentiles of the time that one query takes, by contestant and case."""
    searches: dict[str, tuple[Callable[[FloatArray], object], FloatArray]] = {}
    for n, d, k in _CASES:
        vectors, queries = _unit_vectors(n, d, seed=0), _unit_vectors(_N_QUERIES, d, seed=1)
        case = f"{n}x{d}-k{k}"
        searches[f"numpy-{case}"] = (_device_search(vectors, k), queries)
        searches[f"{_REFERENCE}-{case}"] = (_reference_search(vectors, k), queries)
    taken_ms: dict[str, list[float]] = {name: [] for name in searches}
    for turn in range(n_turns + 1):
        for name, (search, queries) in searches.items():
            for number in range(_PER_TURN):
                query = queries[(turn * _PER_TURN + number) % _N_QUERIES][np.newaxis]
                began_s = time.perf_counter()
                search(query)
                if turn:  # the first warms up
                    taken_ms[name].append(1e3 * (time.perf_counter() - began_s))
    return {
        name: {
            **{f"p{share}_ms": float(np.percentile(taken, share)) for share in (50, 99)},
            "max_ms": max(taken),
            "n": float(len(taken)),
        }
        for name, taken in taken_ms.items()
    }


def _device_search(vectors: FloatArray, k: int) -> Callable[[FloatArray], object]:
    neighbours = NearestNeighbours(vectors)
    return lambda query: neighbours.distances(query, k)


def _reference_search(vectors: FloatArray, k: int) -> Callable[[FloatArray], object]:
    neighbours = NearestNeighbors(n_neighbors=k, algorithm="brute", n_jobs=1).fit(vectors)
    return neighbours.kneighbors  # type: ignore[no-any-return]  # scikit-learn has no types


def _unit_vectors(n: int, d: int, *, seed: int) -> FloatArray:
    """(n, d) float32 of unit length, drawn about a few directions as the states of a machine are."""
    random = np.random.default_rng(seed)
    states = np.random.default_rng(2).standard_normal((5, d))
    vectors = states[random.integers(0, 5, n)] + 0.3 * random.standard_normal((n, d))
    unit: FloatArray = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


if __name__ == "__main__":
    raise SystemExit(main())

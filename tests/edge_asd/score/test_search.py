"""Nearest neighbours are exact, whatever the order, the block size and the rounding of the product."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from edge_asd.score.search import NearestNeighbours, nearest_distances


def drawn(seed, n, d, scale=1.0):
    return (scale * np.random.default_rng(seed).standard_normal((n, d))).astype(np.float32)


def brute_force(vectors, queries, k):
    differences = queries[:, np.newaxis].astype(np.float64) - vectors[np.newaxis].astype(np.float64)
    return np.sort(np.sqrt((differences**2).sum(axis=2)), axis=1)[:, :k]


@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 60), st.integers(1, 40)),
    k=st.integers(1, 6),
    scale=st.sampled_from([1e-4, 1.0, 300.0]),
    offset=st.sampled_from([0.0, 1.0, 1_000.0]),
)
def test_distances_are_those_of_brute_force(seed, shape, k, scale, offset):
    """In float64, even far from the origin, where a product in float32 has lost all digits of the distance."""
    n, d = shape
    vectors, queries = drawn(seed, n, d, scale) + np.float32(offset), drawn(seed + 1, 3, d, scale) + np.float32(offset)
    k = min(k, n)
    np.testing.assert_allclose(nearest_distances(vectors, queries, k), brute_force(vectors, queries, k), rtol=1e-12)


def test_distances_are_those_of_scikit_learn():
    """Another implementation on more vectors than one block of products holds."""
    vectors, queries = drawn(1, 2_000, 128), drawn(2, 20, 128)
    expected, _ = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(vectors.astype(np.float64)).kneighbors(queries)
    found = NearestNeighbours(vectors, block_elements=5_000).distances(queries, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@given(seed=st.integers(0, 10_000), block_elements=st.integers(1, 400))
def test_order_and_block_size_change_no_bit(seed, block_elements):
    """Scores of two devices that keep the same memory agree."""
    vectors, queries = drawn(seed, 40, 8), drawn(seed + 1, 7, 8)
    shuffled = np.random.default_rng(seed).permutation(vectors)
    expected = NearestNeighbours(vectors).distances(queries, 3)
    found = NearestNeighbours(shuffled, block_elements=block_elements).distances(queries, 3)
    assert np.array_equal(found, expected)


def test_a_vector_of_the_memory_is_at_distance_zero():
    """Exactly, as often as it is there."""
    vectors = drawn(3, 50, 128)
    vectors[10] = vectors[20] = vectors[30]
    found = nearest_distances(vectors, vectors[30:31], 4)[0]
    assert found[:3].tolist() == [0.0, 0.0, 0.0]
    assert found[3] > 0.0


def test_ties_give_equal_distances():
    """Two vectors on either side."""
    vectors = np.array([[1.0, 0.0], [-1.0, 0.0], [5.0, 0.0]], dtype=np.float32)
    assert nearest_distances(vectors, np.zeros((1, 2), np.float32), 2).tolist() == [[1.0, 1.0]]


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 30), n_groups=st.integers(2, 6), k=st.integers(1, 3))
def test_own_group_is_passed_over(seed, n, n_groups, k):
    """As if its vectors were not there; missing neighbours are infinitely far."""
    random = np.random.default_rng(seed)
    vectors, group = drawn(seed, n, 5), random.integers(0, n_groups, n)
    found = NearestNeighbours(vectors).distances(vectors, min(k, n), query_group=group, group=group)
    for row in range(n):
        others = vectors[group != group[row]]
        expected = brute_force(others, vectors[row : row + 1], min(k, n))[0] if len(others) else np.empty(0)
        expected = np.concatenate([expected, np.full(min(k, n) - len(expected), np.inf)])
        np.testing.assert_allclose(found[row], expected, rtol=1e-12)


def test_more_neighbours_than_vectors_are_infinitely_far():
    """All there are, and then none."""
    vectors = drawn(6, 3, 4)
    found = nearest_distances(vectors, vectors[:1], 5)[0]
    np.testing.assert_allclose(found[:3], brute_force(vectors, vectors[:1], 3)[0], rtol=1e-12)
    assert np.isinf(found[3:]).all()


@given(
    seed=st.integers(0, 10_000),
    spread=st.sampled_from([1e-1, 1e-3, 1e-5, 1e-7, 0.0]),
    n_centres=st.integers(1, 3),
    strange=st.booleans(),
)
def test_dense_memories_are_searched_exactly(seed, spread, n_centres, strange):
    """Vectors far nearer to each other than to the origin, in one or several places, with or without a stray one."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((n_centres, 16))
    vectors = centres[random.integers(0, n_centres, 80)] + spread * random.standard_normal((80, 16))
    if strange:
        vectors[3] *= -5.0
    vectors = vectors.astype(np.float32)
    queries = (centres + 2.0 * spread * random.standard_normal((n_centres, 16))).astype(np.float32)
    np.testing.assert_allclose(nearest_distances(vectors, queries, 3), brute_force(vectors, queries, 3), rtol=1e-12)


@pytest.mark.parametrize("spread", [0.3, 0.01, 0.0035, 0.001])
def test_dense_memory_leaves_few_candidates(spread):
    """So that a search is as fast in the memory of a machine that always sounds the same: 1 ms among 10,000."""
    random = np.random.default_rng(0)
    vectors = random.standard_normal(128) + spread * random.standard_normal((10_000, 128))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    search = NearestNeighbours(vectors[10:])
    exact, found = search._exact, []
    search._exact = lambda query, candidates, k: found.append(len(candidates)) or exact(query, candidates, k)
    search.distances(vectors[:10], 1)
    assert len(found) == 10
    assert max(found) < 100


def test_what_float32_cannot_multiply_is_still_exact():
    """Vectors so long that the product overflows."""
    vectors = np.array([[1e30, 0.0], [-1e30, 0.0]], dtype=np.float32)
    query = np.array([[9e29, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(nearest_distances(vectors, query), [[1e29]], rtol=1e-6)


def test_query_with_nan_has_nan():
    """It alone."""
    vectors = drawn(4, 10, 3)
    queries = drawn(5, 2, 3)
    queries[0, 1] = np.nan
    found = nearest_distances(vectors, queries)
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()

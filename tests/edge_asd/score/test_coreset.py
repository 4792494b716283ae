"""A coreset covers what it stands for."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.score import coreset_rows, nearest_distances


def radius(vectors, rows):
    """How far the farthest vector is from its nearest of the rows."""
    return float(nearest_distances(vectors[rows], vectors).max())


@given(seed=st.integers(0, 10_000), n=st.integers(2, 9), n_rows=st.integers(1, 4))
def test_radius_is_at_most_twice_the_best(seed, n, n_rows):
    """Against every choice of as many rows."""
    vectors = np.random.default_rng(seed).standard_normal((n, 2)).astype(np.float32)
    n_rows = min(n_rows, n)
    best = min(radius(vectors, list(rows)) for rows in combinations(range(n), n_rows))
    assert radius(vectors, coreset_rows(vectors, n_rows)) <= 2.0 * best + 1e-5


@given(seed=st.integers(0, 10_000), n=st.integers(1, 30), n_rows=st.integers(1, 40))
def test_rows_are_chosen_once_and_more_of_them_cover_more(seed, n, n_rows):
    """Copies among the vectors too."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((n, 3)).astype(np.float32)[random.integers(0, n, n)]
    rows = coreset_rows(vectors, n_rows)
    assert len(rows) == len(set(rows.tolist())) == min(n, n_rows)
    if n_rows < n:
        assert radius(vectors, coreset_rows(vectors, n_rows + 1)) <= radius(vectors, rows) + 1e-6


def test_every_cluster_has_its_row():
    """Five states of a machine, of which one was heard three times only."""
    random = np.random.default_rng(0)
    centres = 10.0 * random.standard_normal((5, 8))
    state = np.repeat(np.arange(5), [100, 100, 100, 100, 3])
    vectors = (centres[state] + 0.1 * random.standard_normal((403, 8))).astype(np.float32)
    assert set(state[coreset_rows(vectors, 5)].tolist()) == {0, 1, 2, 3, 4}


def test_no_rows_are_refused():
    """A memory of nothing is none."""
    with pytest.raises(ValueError, match="1 or more"):
        coreset_rows(np.zeros((3, 2), np.float32), 0)

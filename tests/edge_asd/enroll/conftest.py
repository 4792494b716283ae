"""Memories of made-up vectors, for tests of enrolment."""

import numpy as np
import pytest

from edge_asd.bundle import Encoder, memory_from_vectors
from edge_asd.types import FeatureSpec

ENCODER = Encoder(sha256="a" * 64, precision="int8", layer="embedding", feature_spec=FeatureSpec())


@pytest.fixture
def encoder():
    """Of all memories here."""
    return ENCODER


@pytest.fixture
def make_memory():
    """A function: n windows about one direction, `per_group` to a minute, as unlike each other as `spread` says."""

    def make(n, *, per_group=1, spread=0.05, seed=0, encoder=ENCODER):
        random = np.random.default_rng(seed)
        centre = np.zeros(128)
        centre[0] = 1.0
        vectors = centre + spread * random.standard_normal((n, 128)) / np.sqrt(128)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        end_utc_s = 1_795_000_000.0 + 10.0 * np.arange(n)
        return memory_from_vectors(
            vectors.astype(np.float32),
            encoder,
            group=np.arange(n, dtype=np.int64) // per_group,
            begin_utc_s=end_utc_s - 10.0,
            end_utc_s=end_utc_s,
        )

    return make

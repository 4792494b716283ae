"""Vectors of unit length and memories of them."""

import numpy as np
import pytest

from edge_asd.bundle import Encoder, memory_from_vectors
from edge_asd.types import FeatureSpec

ENCODER = Encoder(sha256="a" * 64, precision="int8", layer="embedding", feature_spec=FeatureSpec())


@pytest.fixture(scope="session")
def draw():
    """A function: (n, d) float32 of unit length about one direction, by seed."""

    def vectors(n: int, *, d: int = 16, seed: int = 0, spread: float = 0.3) -> np.ndarray:
        random = np.random.default_rng(seed)
        found = random.standard_normal((1, d)) + spread * random.standard_normal((n, d))
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)

    return vectors


@pytest.fixture(scope="session")
def remember():
    """A function: a memory of vectors made by one encoder."""

    def memory(vectors, **marks):
        return memory_from_vectors(vectors, ENCODER, **marks)

    return memory

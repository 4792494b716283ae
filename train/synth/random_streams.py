"""A seed and what it is for in, random numbers of its own out, so that no clip depends on another or on threads."""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *purpose: str) -> np.random.Generator:
    """Random numbers for one purpose, such as ("fan", "id_00", "unit"); the same for the same seed and purpose."""
    digest = hashlib.sha256("\0".join((str(seed), *purpose)).encode()).digest()
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(int.from_bytes(digest, "big"))))

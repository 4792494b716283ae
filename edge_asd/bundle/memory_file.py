"""Memories of one encoder in, memory.npz out, and back with every value checked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_asd.bundle.memory import Encoder, KnnFit, Memory
from edge_asd.bundle.plain_npz import Layout, arrays_from_npz, limit_bytes, npz_from_arrays
from edge_asd.errors import BundleError

MAX_UTC_S = 1e11
_LENGTH_TOLERANCE = 1e-3


def npz_from_memories(memories: Sequence[Memory]) -> bytes:
    """The same bytes for the same memories; their rows follow one another."""
    return npz_from_arrays(
        {
            "vectors": np.concatenate([memory.vectors for memory in memories]),
            "is_target": np.concatenate([memory.is_target for memory in memories]).astype(np.int64),
            "group": np.concatenate([memory.group for memory in memories]),
            "begin_utc_s": np.concatenate([memory.begin_utc_s for memory in memories]),
            "end_utc_s": np.concatenate([memory.end_utc_s for memory in memories]),
        }
    )


def memories_from_npz(
    data: bytes, *, encoder: Encoder, vector_size: int, fits: Sequence[KnnFit], where: str
) -> list[Memory]:
    """Read the memories that were written one after the other; shapes are checked before memory is taken for them.

    Args:
        data: content of memory.npz.
        encoder: that made all vectors.
        vector_size: of its layer.
        fits: of each memory, in their order.
        where: for messages.

    Raises:
        BundleError: an array is missing, unknown, compressed, of another shape or type, or holds impossible values.
    """
    arrays = arrays_from_npz(data, _layout(vector_size, fits), where=where)
    vectors, is_target = arrays["vectors"], arrays["is_target"]
    begin, end = arrays["begin_utc_s"], arrays["end_utc_s"]
    length = np.linalg.norm(vectors.astype(np.float64), axis=1)
    if np.any(np.abs(length - 1.0) > _LENGTH_TOLERANCE):
        raise BundleError(
            f"{where}: holds vectors {length.min():.3g} to {length.max():.3g} long; expected unit length; make the "
            "memory again"
        )
    if not np.isin(is_target, (0, 1)).all():
        raise BundleError(f"{where}: is_target holds {np.unique(is_target)[:5].tolist()}; expected 0 and 1")
    if np.any((begin < 0.0) | (begin > end) | (end > MAX_UTC_S)):
        raise BundleError(
            f"{where}: holds times of sound that begins after its end or beyond {MAX_UTC_S:g} s; make the memory again"
        )
    memories = []
    start = 0
    for fit in fits:
        rows = slice(start, start + fit.n_vectors)
        start += fit.n_vectors
        memory = Memory(
            encoder=encoder,
            vectors=vectors[rows],
            is_target=is_target[rows].astype(np.bool_),
            group=arrays["group"][rows],
            begin_utc_s=begin[rows],
            end_utc_s=end[rows],
        )
        try:
            fit.check(memory)
        except ValueError as error:
            raise BundleError(f"{where}: rows {rows.start} to {rows.stop - 1}: {error}") from error
        memories.append(memory)
    return memories


def memory_file_bytes(n_rows: int, vector_size: int) -> int:
    """What a memory.npz of one memory takes: vectors, their marks, and what an npz adds to them."""
    empty = {name: np.empty((0, *shape[1:]), dtype) for name, (shape, dtype) in _layout_of(0, vector_size).items()}
    arrays = _layout_of(n_rows, vector_size).values()
    return len(npz_from_arrays(empty)) + sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in arrays)


def memory_limit_bytes(vector_size: int, fits: Sequence[KnnFit]) -> int:
    """The most bytes that a memory.npz of these memories can need."""
    return limit_bytes(_layout(vector_size, fits))


def _layout(vector_size: int, fits: Sequence[KnnFit]) -> Layout:
    return _layout_of(sum(fit.n_vectors for fit in fits), vector_size)


def _layout_of(n_rows: int, vector_size: int) -> Layout:
    return {
        "vectors": ((n_rows, vector_size), np.dtype("<f4")),
        "is_target": ((n_rows,), np.dtype("<i8")),
        "group": ((n_rows,), np.dtype("<i8")),
        "begin_utc_s": ((n_rows,), np.dtype("<f8")),
        "end_utc_s": ((n_rows,), np.dtype("<f8")),
    }

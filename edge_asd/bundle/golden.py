"""Golden values of a bundle: two windows and what the float32 network said of them, to and from golden.npz."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from edge_asd.bundle.part import EMBEDDING_SIZE
from edge_asd.bundle.plain_npz import Layout, arrays_from_npz, limit_bytes, npz_from_arrays
from edge_asd.errors import BundleError
from edge_asd.types import FeatureSpec, FloatArray

N_WINDOWS = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Golden:
    """Expected values of the float32 network, for the self-test of a device.

    wave: (2, window_samples) float32. log_mel: (2, n_mels, n_frames) float32 in dB. embedding: (2, 128) float32 of
    unit length. cosine: (2, classes) float32. label: (2,) int64, the class of each window as index into the manifest's
    classes. score: (2,) float32, z of each window at its label. knn_score: (2, memories) float32, of both windows
    against each memory in the manifest's order; None where there is none. Arrays that were read from a bundle are
    read-only.
    """

    wave: FloatArray
    log_mel: FloatArray
    embedding: FloatArray
    cosine: FloatArray
    label: NDArray[np.int64]
    score: FloatArray
    knn_score: FloatArray | None = None


def npz_from_golden(golden: Golden) -> bytes:
    """The same bytes for the same values: arrays stored plain, without times."""
    arrays = {field.name: getattr(golden, field.name) for field in fields(Golden)}
    return npz_from_arrays({name: array for name, array in arrays.items() if array is not None})


def golden_from_npz(data: bytes, *, spec: FeatureSpec, n_classes: int, n_memories: int, where: str) -> Golden:
    """Read golden.npz; every shape and type is checked against the manifest before memory is taken for it.

    Raises:
        BundleError: an array is missing, unknown, compressed, of another shape or type, or not finite.
    """
    arrays = arrays_from_npz(data, _layout(spec, n_classes, n_memories), where=where)
    if not all(0 <= label < n_classes for label in arrays["label"]):
        raise BundleError(
            f"{where}: labels are {arrays['label'].tolist()}; expected 0 to {n_classes - 1}, indices into the classes "
            "of the manifest; export it again"
        )
    return Golden(**arrays)


def golden_limit_bytes(spec: FeatureSpec, n_classes: int, n_memories: int) -> int:
    """The most bytes that a golden.npz of this spec can need."""
    return limit_bytes(_layout(spec, n_classes, n_memories))


def _layout(spec: FeatureSpec, n_classes: int, n_memories: int) -> Layout:
    real: np.dtype[np.float32] = np.dtype("<f4")
    return {
        "wave": ((N_WINDOWS, spec.window_samples), real),
        "log_mel": ((N_WINDOWS, spec.n_mels, spec.n_frames), real),
        "embedding": ((N_WINDOWS, EMBEDDING_SIZE), real),
        "cosine": ((N_WINDOWS, n_classes), real),
        "label": ((N_WINDOWS,), np.dtype("<i8")),
        "score": ((N_WINDOWS,), real),
        **({"knn_score": ((N_WINDOWS, n_memories), real)} if n_memories else {}),
    }

"""Vectors of normal sound and the network that made them in, a memory that nearest neighbours are sought in out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from edge_asd.bundle.part import Part, Precision
from edge_asd.errors import BundleError
from edge_asd.types import FeatureSpec, FloatArray, Layer

MAX_NEIGHBOURS = 16
MAX_VECTORS = 65_536
MAX_VECTOR_SIZE = 8_192
MIXES_PER_TARGET = 9
"""With how many of its nearest source vectors MemMixup mixes each target vector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """What made the vectors of a memory; distances to vectors of another one mean nothing.

    sha256: hex digest of the network's serialized ONNX model. precision: of that network. layer: which of its outputs.
    feature_spec: of the front end ahead of it.
    """

    sha256: str
    precision: Precision
    layer: Layer
    feature_spec: FeatureSpec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Memory:
    """Vectors of normal sound of one machine, in any order.

    vectors: (n, d) float32 of unit length. is_target: (n,) bool, of the target domain (how the machine sounds now)
    rather than the source domain. group: (n,) int64, the same for vectors of one recording or of windows that overlap:
    each of them says nothing new beside the others. begin_utc_s, end_utc_s: (n,) float64, when the sound was heard; 0
    where nobody noted it.

    Raises:
        ValueError: shapes or types do not fit, or a value is not finite.
    """

    encoder: Encoder
    vectors: FloatArray
    is_target: NDArray[np.bool_]
    group: NDArray[np.int64]
    begin_utc_s: NDArray[np.float64]
    end_utc_s: NDArray[np.float64]

    def __post_init__(self) -> None:
        n = len(self.vectors)
        if self.vectors.ndim != 2 or self.vectors.dtype != np.float32:
            raise ValueError(f"vectors are {self.vectors.dtype} {self.vectors.shape}; expected float32 (n, d)")
        for name, dtype in (("is_target", "?"), ("group", "i8"), ("begin_utc_s", "f8"), ("end_utc_s", "f8")):
            array = getattr(self, name)
            if array.shape != (n,) or array.dtype != np.dtype(dtype):
                raise ValueError(f"{name} is {array.dtype} {array.shape}; expected {np.dtype(dtype)} ({n},)")
        for name in ("vectors", "begin_utc_s", "end_utc_s"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} holds values that are not finite; expected numbers")

    def __len__(self) -> int:
        return len(self.vectors)

    def n_searched(self, *, is_target: bool) -> int:
        """Vectors that one domain is compared with, MemMixup's included."""
        n_target = int(np.count_nonzero(self.is_target))
        n_source = len(self) - n_target
        return n_target * (1 + min(MIXES_PER_TARGET, n_source)) if is_target else n_source

    def taken(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Memory:
        """The memory of these rows alone."""
        return replace(
            self,
            vectors=self.vectors[rows],
            is_target=self.is_target[rows],
            group=self.group[rows],
            begin_utc_s=self.begin_utc_s[rows],
            end_utc_s=self.end_utc_s[rows],
        )

    def joined(self, other: Memory) -> Memory:
        """Both; the groups of `other` stay apart from those here, and none follows one of them as minutes do.

        Raises:
            BundleError: another encoder made `other`.
        """
        check_encoder(other.encoder, self.encoder, where="the vectors to add")
        # Not the number after the latest: those are of minutes that follow one another.
        first = int(self.group.max(initial=-2)) + 2 - int(other.group.min(initial=0))
        return replace(
            self,
            vectors=np.concatenate([self.vectors, other.vectors]),
            is_target=np.concatenate([self.is_target, other.is_target]),
            group=np.concatenate([self.group, other.group + first]),
            begin_utc_s=np.concatenate([self.begin_utc_s, other.begin_utc_s]),
            end_utc_s=np.concatenate([self.end_utc_s, other.end_utc_s]),
        )

    def without(self, *, from_utc_s: float, to_utc_s: float) -> Memory:
        """What was not heard, even in part, between these times; what has no time stays."""
        was_noted = self.end_utc_s > 0.0
        return self.taken(~(was_noted & (self.end_utc_s > from_utc_s) & (self.begin_utc_s < to_utc_s)))


def memory_from_vectors(
    vectors: FloatArray,
    encoder: Encoder,
    *,
    is_target: bool = False,
    group: NDArray[np.int64] | None = None,
    begin_utc_s: NDArray[np.float64] | None = None,
    end_utc_s: NDArray[np.float64] | None = None,
) -> Memory:
    """A memory of vectors (n, d) of one domain; by default each is a recording of its own, heard nobody knows when.

    Raises:
        ValueError: as `Memory`.
    """
    n = len(vectors)
    return Memory(
        encoder=encoder,
        vectors=np.ascontiguousarray(vectors, dtype=np.float32),
        is_target=np.full(n, is_target),
        group=np.arange(n, dtype=np.int64) if group is None else group,
        begin_utc_s=np.zeros(n) if begin_utc_s is None else begin_utc_s,
        end_utc_s=np.zeros(n) if end_utc_s is None else end_utc_s,
    )


def check_encoder(found: Encoder, expected: Encoder, *, where: str) -> None:
    """Make sure that vectors of both may be compared.

    Raises:
        BundleError: network, precision, layer or front end are others.
    """
    if found != expected:
        differing = [
            f"{name} {getattr(found, name)} (expected {getattr(expected, name)})"
            for name in ("sha256", "precision", "layer", "feature_spec")
            if getattr(found, name) != getattr(expected, name)
        ]
        raise BundleError(
            f"{where}: made by another encoder: {', '.join(differing)}; distances between their vectors mean nothing; "
            "make the memory again with the network that runs"
        )


class Spread(Part):
    """Mean and standard deviation of n values of healthy sound."""

    mean: float
    std: float = Field(gt=0.0)
    n: int = Field(ge=2)


class KnnFit(Part):
    """What turns distances to one memory into a score.

    k: neighbours whose distances are averaged. n_vectors: of the memory. source, target: leave-one-out distances of the
    healthy recordings of each domain, those of the source for a target of too few recordings to show their own; None
    for a domain that the memory does not hold.
    """

    k: int = Field(ge=1, le=MAX_NEIGHBOURS)
    n_vectors: int = Field(ge=1, le=MAX_VECTORS)
    source: Spread | None
    target: Spread | None

    @model_validator(mode="after")
    def _check_domains(self) -> KnnFit:
        if self.source is None and self.target is None:
            raise ValueError("neither source nor target has leave-one-out distances; expected one or both")
        if self.k > self.n_vectors and None in (self.source, self.target):
            raise ValueError(
                f"{self.k} neighbours of {self.n_vectors} vectors; expected no more neighbours than vectors"
            )
        return self

    def check(self, memory: Memory) -> None:
        """Make sure that these are the statistics of that memory.

        Raises:
            ValueError: it has another number of vectors or other domains, or fewer vectors of one than neighbours.
        """
        held = {"source": bool((~memory.is_target).any()), "target": bool(memory.is_target.any())}
        fitted = {"source": self.source is not None, "target": self.target is not None}
        if len(memory) != self.n_vectors or held != fitted:
            raise ValueError(
                f"the memory has {len(memory)} vectors of domains {held}, its statistics are of {self.n_vectors} of "
                f"{fitted}; expected those of this memory; fit it again"
            )
        for domain, is_there in held.items():
            n_searched = memory.n_searched(is_target=domain == "target")
            if is_there and n_searched < self.k:
                raise ValueError(
                    f"the memory has {n_searched} vectors of the {domain} domain, mixes included; expected at least "
                    f"the {self.k} whose distances are averaged; make it again with fewer neighbours, or of more sound"
                )

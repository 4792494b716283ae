"""Vectors of healthy sound in, a memory within a byte budget and how far healthy sound lies from it out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_asd.bundle.memory import KnnFit, Memory, Spread
from edge_asd.bundle.memory_file import memory_file_bytes
from edge_asd.errors import ClipError
from edge_asd.score.coreset import coreset_rows
from edge_asd.score.knn import domain_memory
from edge_asd.score.search import NearestNeighbours

MIN_GROUPS = 3
# Distances between vectors of unit length that differ by less are those of copies, but for rounding.
_MIN_STD = 1e-6


def build_memory(heard: Memory, *, k: int = 1, budget_bytes: int | None = None) -> tuple[Memory, KnnFit]:
    """The memory to keep of all that was heard, and what its distances are to healthy sound.

    Where the budget cannot hold all, each domain is reduced to a coreset; a target domain keeps up to half of it.

    Args:
        heard: vectors of healthy sound.
        k: neighbours whose distances are averaged.
        budget_bytes: of a file of this memory alone; None keeps all.

    Raises:
        ClipError: a domain has too few recordings, or all of them are alike.
        ValueError: the budget holds too few rows.
    """
    kept = heard if budget_bytes is None else heard.taken(_rows_within(heard, budget_bytes))
    return kept, fit_memory(kept, heard, k=k)


def fit_memory(memory: Memory, heard: Memory, *, k: int = 1) -> KnnFit:
    """Leave-one-out distances of all healthy recordings that were heard to the memory that was kept of them.

    A vector passes over those of its own group, and where it is one of the target domain, over what was mixed of them.
    No test clip is ever needed. A target domain of one or two recordings shows no spread: that of the source stands in.

    Raises:
        ClipError: a domain has too few recordings, or all of them are alike.
    """
    if not len(heard):
        raise ClipError(f"no healthy recordings; expected {MIN_GROUPS} or more; record some")
    source = _spread(memory, heard, is_target=False, k=k)
    n_target = len(np.unique(heard.group[heard.is_target]))
    if source is not None and 0 < n_target < MIN_GROUPS:
        target: Spread | None = source
    else:
        target = _spread(memory, heard, is_target=True, k=k)
    return KnnFit(k=k, n_vectors=len(memory), source=source, target=target)


def _spread(memory: Memory, heard: Memory, *, is_target: bool, k: int) -> Spread | None:
    own = heard.taken(heard.is_target == is_target)
    if not len(own):
        return None
    domain = "target" if is_target else "source"
    vectors, group = domain_memory(memory, is_target=is_target)
    n_groups = min(len(np.unique(own.group)), len(np.unique(group)))
    if n_groups < MIN_GROUPS:
        raise ClipError(
            f"{n_groups} healthy recordings of the {domain} domain; expected {MIN_GROUPS} or more: distances between "
            "fewer show no spread; record more"
        )
    nearest = NearestNeighbours(vectors).distances(own.vectors, k, query_group=own.group, group=group)
    distances = nearest.mean(axis=1)
    if not np.isfinite(distances).all():
        raise ClipError(
            f"{len(vectors)} vectors of the {domain} domain, fewer than {k} beside those of one recording; expected "
            f"more recordings, or fewer neighbours than {k}; record more"
        )
    std = float(distances.std(ddof=1))
    if std <= _MIN_STD:
        raise ClipError(
            f"{n_groups} healthy recordings of the {domain} domain are all alike: each lies "
            f"{distances.mean():.3g} from its nearest; expected different recordings; are they copies of one?"
        )
    return Spread(mean=float(distances.mean()), std=std, n=len(distances))


def _rows_within(heard: Memory, budget_bytes: int) -> NDArray[np.intp]:
    n_rows = _rows_of(budget_bytes, heard.vectors.shape[1])
    target, source = np.flatnonzero(heard.is_target), np.flatnonzero(~heard.is_target)
    n_target = min(len(target), max(n_rows // 2, n_rows - len(source)))
    n_source = min(len(source), n_rows - n_target)
    has_room = n_target >= min(MIN_GROUPS, len(target)) and n_source >= min(MIN_GROUPS, len(source))
    if n_rows < MIN_GROUPS or not has_room:
        raise ValueError(
            f"a budget of {budget_bytes} bytes holds {n_rows} vectors; expected {MIN_GROUPS} or more of each domain"
        )
    rows = [part[coreset_rows(heard.vectors[part], n)] for part, n in ((source, n_source), (target, n_target)) if n]
    return np.sort(np.concatenate(rows))


def _rows_of(budget_bytes: int, vector_size: int) -> int:
    row_bytes = memory_file_bytes(1, vector_size) - memory_file_bytes(0, vector_size)
    return max(0, (budget_bytes - memory_file_bytes(0, vector_size)) // row_bytes)

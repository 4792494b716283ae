"""Whoever computes beside engines in; BLAS with one thread in the whole process while there is anyone, out."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

_lock = threading.Lock()
_held: list[threadpool_limits] = []  # one for all
_holders = 0


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread until the last of those who asked for it is done, in whatever order they end."""
    global _holders  # noqa: PLW0603 - the limit is the process's too
    with _lock:
        if not _holders:
            _held.append(threadpool_limits(limits=1, user_api="blas"))
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if not _holders:
                _held.pop().restore_original_limits()

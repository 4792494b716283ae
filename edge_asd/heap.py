"""The memory of a process that runs for months, kept small; C libraries other than glibc stay as they are."""

from __future__ import annotations

import ctypes
import gc

_M_ARENA_MAX = -8
"""Source: malloc.h of glibc."""

_MAX_ARENAS = 2


def keep_small() -> None:
    """Have all threads share two arenas: otherwise each thread's grows to the most that it ever took at once.

    Call it ahead of starting threads.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _MAX_ARENAS)


def give_back() -> None:
    """Hand what is no longer used back to the system, after something that took much memory once."""
    gc.collect()
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)

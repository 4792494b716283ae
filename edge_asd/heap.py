"""The memory of a process that runs for months, kept small; C libraries other than glibc stay as they are."""

from __future__ import annotations

import ctypes
import gc

_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
"""Source: malloc.h of glibc."""

_MMAP_THRESHOLD_BYTES = 128 * 1024  # glibc's own at the start
_MAX_ARENAS = 2


def keep_small() -> None:
    """Keep threads to two arenas, and large arrays out of them.

    Otherwise each thread's arena grows to the most that it ever took at once; and glibc, once an array of some size was
    freed, takes the next ones from an arena, which grows by megabytes, for good, whenever small objects have come to
    lie between them. Call it ahead of starting threads.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _MAX_ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)


def give_back() -> None:
    """Hand what is no longer used back to the system, after something that took much memory once."""
    gc.collect()
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)

"""What the C library does with freed memory: hand it back, or keep it; libraries other than glibc stay as they are."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Mapping

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -3, -4, -8
"""Source: malloc.h of glibc."""

_MMAP_THRESHOLD_BYTES = 128 * 1024  # glibc's own at the start
_MAX_ARENAS = 2
_NEVER = -1
_GROWS_BY_BYTES = 256 * 2**20


def keep_small() -> None:
    """Keep threads to two arenas, and large arrays out of them.

    Otherwise each thread's arena grows to the most that it ever took at once; and glibc, once an array of some size was
    freed, takes the next ones from an arena, which grows by megabytes, for good, whenever small objects have come to
    lie between them. Call it ahead of starting threads.
    """
    _set({_M_ARENA_MAX: _MAX_ARENAS, _M_MMAP_THRESHOLD: _MMAP_THRESHOLD_BYTES})


def keep_all() -> None:
    """Keep what is freed for the next arrays, in a process that takes as much again with every step, as training does.

    Otherwise each array of a step is new memory, which the system has to find and to clear page by page.
    """
    _set({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER, _M_TOP_PAD: _GROWS_BY_BYTES})


def give_back() -> None:
    """Hand what is no longer used back to the system, after something that took much memory once."""
    gc.collect()
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def _set(options: Mapping[int, int]) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in options.items():
            mallopt(option, value)

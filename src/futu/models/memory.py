"""Memory that is free goes back to the system."""

from __future__ import annotations

import ctypes
import gc
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE = 12 << 20  # a picture of 3 megapixels


def give_back() -> None:
    """Return freed memory to the operating system, where the C library has to be asked (glibc)."""
    gc.collect()
    if sys.platform == "linux":
        try:
            ctypes.CDLL(None).malloc_trim(0)
        except AttributeError:  # another C library
            return


def keep_large_blocks_apart() -> None:
    """Have glibc ask the system for each large block, so that freeing one gives it back at once.

    By default glibc raises the limit above which it does so to that of the largest block freed,
    up to 32 MiB. Then what one thread has freed of a large picture stays with that thread's
    arena: with four workers that was twice the budget for decoding. Giving the limits turns that
    off (mallopt(3), M_MMAP_THRESHOLD). Small pictures lie below them and are as fast as before.
    """
    if sys.platform == "linux":
        try:
            mallopt = ctypes.CDLL(None).mallopt
        except AttributeError:  # another C library
            return
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, _LARGE)

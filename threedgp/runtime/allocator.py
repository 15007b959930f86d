"""The C library's allocator, told to keep what is freed.

By default glibc gives large blocks back to the kernel at once, and gets them again a page at a time, zeroed: a tenth of
the processor time of a training step at the scale of `toy` (docs/results.md). What a user set by MALLOC_TRIM_THRESHOLD_
or MALLOC_MMAP_THRESHOLD_ is left alone.
"""

from __future__ import annotations

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`."""
LARGEST_BLOCK = 32 * 2**20
"""The largest that glibc lets be taken from what it keeps."""
MOST_KEPT = 2**31 - 1


def keep_freed_memory() -> None:
    """From now on, reuse freed blocks of up to 32 MB. Does nothing where the C library is another one."""
    if "MALLOC_TRIM_THRESHOLD_" in os.environ or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_MMAP_THRESHOLD, LARGEST_BLOCK)
    mallopt(_M_TRIM_THRESHOLD, MOST_KEPT)

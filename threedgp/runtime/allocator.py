"""Configuration of glibc's allocator for training on CPUs.

By default glibc returns large blocks to the kernel at once and gets new ones page by page, filled with zeros. This
takes a tenth of the CPU time of a training step of preset `toy` (docs/results.md).
"""

from __future__ import annotations

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of `mallopt`."""
MAX_BLOCK = 32 * 2**20
"""Bytes; the largest M_MMAP_THRESHOLD that glibc accepts."""
MAX_KEPT = 2**31 - 1
"""Bytes of free memory that are kept."""


def keep_freed_memory() -> None:
    """Reuse freed blocks of up to 32 MB from now on.

    Does nothing with other C libraries, or if MALLOC_TRIM_THRESHOLD_ or MALLOC_MMAP_THRESHOLD_ is set.
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_MMAP_THRESHOLD, MAX_BLOCK)
    mallopt(_M_TRIM_THRESHOLD, MAX_KEPT)

"""Native code on the threads of PyTorch's own operators.

Threads of its own would compete with PyTorch's, which keep a processor busy for a while after each operator while they
wait for the next.
"""

from __future__ import annotations

import ctypes
from functools import cache

import torch


class Threads(ctypes.Structure):
    """The argument of native functions that lets them use several threads; see threads.h."""

    _fields_ = (("parallel", ctypes.c_void_p), ("count", ctypes.c_int64))


@cache
def _parallel() -> int | None:
    """Address of `GOMP_parallel`, which runs a function in several threads, in PyTorch's OpenMP library."""
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p).value
    except (AttributeError, OSError, TypeError):  # an OpenMP library other than GNU's, or Windows
        return None


def threads() -> Threads:
    """As many threads as PyTorch currently uses."""
    return Threads(_parallel(), torch.get_num_threads())

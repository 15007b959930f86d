"""Pieces of compiled work on the threads that PyTorch's own operators use.

Threads of our own would have to take turns with PyTorch's, which after each operator keep a processor busy for a while,
waiting for the next.
"""

from __future__ import annotations

import ctypes
from functools import cache

import torch


@cache
def _parallel() -> int | None:
    """Address of `GOMP_parallel` of the OpenMP library that PyTorch is linked to.

    It runs a function once in each of its threads.
    """
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p).value
    except (AttributeError, OSError, TypeError):  # another OpenMP than GNU's, or Windows
        return None


class Team(ctypes.Structure):
    """For `team.h`: shares work out inside of compiled code."""

    _fields_ = (("run", ctypes.c_void_p), ("threads", ctypes.c_int64))


def team() -> Team:
    """As many threads as PyTorch uses now."""
    return _team(_parallel(), torch.get_num_threads())


@cache
def _team(parallel: int | None, threads: int) -> Team:
    return Team(parallel, threads)

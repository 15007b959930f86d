"""Pieces of compiled work on the threads that PyTorch's own operators use.

Threads of our own would have to take turns with PyTorch's, which after each operator keep a processor busy for a while,
waiting for the next.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import torch

_Body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@cache
def _parallel() -> Callable[..., None] | None:
    """`GOMP_parallel` of the OpenMP library that PyTorch is linked to: runs a function once in each of its threads."""
    try:
        return ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, OSError, TypeError):  # another OpenMP than GNU's, or Windows
        return None


class Team(ctypes.Structure):
    """For `team.h`: shares work out inside of compiled code."""

    _fields_ = (("run", ctypes.c_void_p), ("threads", ctypes.c_int64))


def team() -> Team:
    """As many threads as PyTorch uses now."""
    parallel = _parallel()
    return Team(parallel and ctypes.cast(parallel, ctypes.c_void_p), torch.get_num_threads())


def share(work: Callable[[int], None], count: int) -> None:
    """Run `work(0)` to `work(count - 1)`, which call compiled code through ctypes, on as many threads as PyTorch uses.

    One after the other where PyTorch comes with another OpenMP library than GNU's.
    """
    threads, parallel = min(torch.get_num_threads(), count), _parallel()
    if threads <= 1 or parallel is None:
        for number in range(count):
            work(number)
        return
    numbers, problems = iter(range(count)), []

    def body(_: int | None) -> None:
        try:
            for number in numbers:  # each thread takes the next one
                work(number)
        except BaseException as problem:  # it must not leave through the library's frames
            problems.append(problem)

    parallel(_Body(body), None, threads, 0)
    if problems:
        raise problems[0]

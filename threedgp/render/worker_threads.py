"""Pieces of a tensor's work on threads of our own, where PyTorch's operators are too small to share out."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


def _begin() -> None:
    torch.set_num_threads(1)  # the pieces share the processors; no piece's operators need more than one


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="field", initializer=_begin)


def share(work: Callable[[int], None], count: int) -> None:
    """Run `work(0)` to `work(count - 1)` on as many threads as PyTorch uses, without autograd."""
    total = torch.get_num_threads()
    threads = min(total, count)

    @torch.no_grad()
    def quietly(k: int) -> None:
        work(k)

    if threads <= 1:
        for k in range(count):
            quietly(k)
        return
    try:
        list(_pool(threads).map(quietly, range(count)))
    finally:
        torch.set_num_threads(total)  # `_begin` also set what threads begin with that PyTorch starts later

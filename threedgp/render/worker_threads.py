"""Pieces of work on threads of our own, where PyTorch's operators are too small to be shared out."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier

import torch


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads in which an operator uses one thread of PyTorch's: together they already use all processors."""
    ready = Barrier(threads + 1)

    def begin() -> None:
        # PyTorch sets a thread's count at its first operator, by what was last set anywhere; asking for it comes first.
        torch.get_num_threads()
        torch.set_num_threads(1)
        ready.wait()

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="field", initializer=begin)
    for _ in range(threads):
        pool.submit(int)
    ready.wait()
    torch.set_num_threads(before)  # for threads that PyTorch begins later
    return pool


def share(work: Callable[[int], None], count: int) -> None:
    """Run `work(0)` to `work(count - 1)` on as many threads as PyTorch uses, without autograd and autocast."""
    threads = min(torch.get_num_threads(), count)
    inference = torch.is_inference_mode_enabled()  # each thread has a mode of its own

    def quietly(k: int) -> None:
        with torch.inference_mode(inference), torch.no_grad(), torch.autocast("cpu", enabled=False):
            work(k)

    if threads <= 1:
        for k in range(count):
            quietly(k)
    else:
        list(_pool(threads).map(quietly, range(count)))

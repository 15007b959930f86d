"""A parallel `map` with threads or processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 4
"""Results per worker that may wait for their turn; bounds the memory."""


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    ahead: int = AHEAD,
    *,
    processes: bool = False,
) -> Iterator[Result]:
    """Apply `function` to `items` in `workers` threads; yield results in the order of `items`.

    At most `ahead` results per worker wait for their turn. An exception of `function` is raised in its turn. When the
    caller stops, items that have not been started are dropped.

    Args:
        processes: use new processes instead of threads. Decoding, resizing and large array operations release the GIL;
            with many small operations, threads wait for each other. Function, items and results must be picklable.

    Raises:
        MemoryError: a process was killed, usually because there is too little memory.
    """
    waiting: deque[Future[Result]] = deque()
    pool: Executor = ProcessPool(workers) if processes else ThreadPoolExecutor(workers)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise MemoryError("a process was killed") from None
    finally:
        pool.shutdown(cancel_futures=True)


class ProcessPool(ProcessPoolExecutor):
    """A pool of new processes. They leave the signals of a terminal to this process, and end with it."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers, multiprocessing.get_context("spawn"), _watch_parent)

    def submit(self, *arguments: Any, **keywords: Any) -> Future:
        """See `Executor.submit`."""
        # It may start a process, which inherits the mask: from its first instruction on, no signal of the terminal ends
        # it with a traceback.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
            return super().submit(*arguments, **keywords)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _watch_parent() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

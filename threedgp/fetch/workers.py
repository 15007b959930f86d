"""Threads that wait for other machines.

Not a ThreadPoolExecutor: Python waits for its threads before it ends, and a thread that waits for a silent server would
keep a stopped command alive for a minute.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from threedgp.fetch.patience import Stopped
from threedgp.fetch.web import Web

Result = TypeVar("Result")
Task = Callable[[Web], Result]

PARTING = 2.0
"""Seconds that the threads have together to put things in order when they are stopped."""


class Workers:
    """`count` threads, each with connections of its own, which take tasks in the order in which they were given.

    As a context manager it ends them: by setting `stop`, and by cutting the connections on which they wait.
    """

    def __init__(self, count: int, open_web: Callable[[], Web], stop: threading.Event) -> None:
        self.stop = stop
        self._tasks: queue.SimpleQueue[tuple[Task[object], Future[object]]] = queue.SimpleQueue()
        self._webs = [open_web() for _ in range(count)]
        self.threads = [threading.Thread(target=self._work, args=(web,), daemon=True) for web in self._webs]
        for thread in self.threads:
            thread.start()

    def submit(self, task: Task[Result]) -> Future[Result]:
        """Have `task` done by a thread, which hands it its connections."""
        future: Future[Result] = Future()
        self._tasks.put((task, future))
        return future

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *failure: object) -> None:
        self.stop.set()
        for thread, web in zip(self.threads, self._webs, strict=True):
            self._tasks.put((_nothing, Future()))
            if thread.is_alive():
                web.cut()
        deadline = time.monotonic() + PARTING
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self, web: Web) -> None:
        while not self.stop.is_set():
            task, future = self._tasks.get()
            try:
                future.set_result(task(web))
            except BaseException as error:
                future.set_exception(error)
        web.close()


def _nothing(web: Web) -> None:
    raise Stopped

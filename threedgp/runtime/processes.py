"""Processes that share the work of a stage: how they are started, identified and synchronized.

Environment variables are those of torchrun. PyTorch is imported only where there are several processes, so that light
stages start fast.
"""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from threedgp.runtime.allocator import keep_freed_memory
from threedgp.runtime.errors import UserError, explained, memory_ran_out

if TYPE_CHECKING:
    from torch.distributed import Store

POLL_SECONDS = 0.2
GRACE_SECONDS = 10
"""Time that processes get to end after another one has failed, before they are killed: a collective may block them."""
STOPPED_CODE = 128 + signal.SIGTERM
STORE = "THREEDGP_STORE"
"""Environment variable with the file over which the processes of `run_processes` find each other."""


class Stopped(Exception):
    """The work was asked to stop, and everything finished so far is saved."""


class Aborted(Stopped):
    """This process left its work at an arbitrary point, and others may be waiting for it."""


class _SignalReceived(BaseException):
    """Not an Exception, so that no handler for damaged files catches it."""


@contextmanager
def interruptible(should_stop: Callable[[], bool]) -> Iterator[None]:
    """Let SIGINT and SIGTERM, which otherwise only set `should_stop`, end the body at any point.

    Raises:
        Aborted: a signal was received, now or before.
    """
    inside = True

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal inside
        previous = handlers[number]
        if callable(previous):
            previous(number, frame)
        if inside:
            inside = False
            raise _SignalReceived

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in handlers:
            signal.signal(number, handle)
        if should_stop():
            raise Aborted
        yield
        inside = False
    except _SignalReceived:
        raise Aborted from None
    finally:
        inside = False
        for number, handler in handlers.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that share some work, as seen by the one with number `rank`."""

    rank: int = 0
    size: int = 1
    store: Store | None = field(default=None, repr=False, compare=False)
    """Shared counters; None for a single process."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes shared files and messages for the user."""
        return self.rank == 0

    def wait(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until all processes have reached the same call; calls `meanwhile` while waiting.

        Polls a counter, so that signals are handled at once and no collective operation times out if another process
        needs hours.
        """
        if self.store is None:
            return
        call = self.store.add(f"calls of {self.rank}", 1)
        self.store.add(f"arrived at {call}", 1)
        while self.store.add(f"arrived at {call}", 0) < self.size:
            meanwhile()
            time.sleep(POLL_SECONDS)

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """Run the body, such as a download, in the main process first, and then in all others."""
        if not self.is_main:
            self.wait()
        yield
        if self.is_main:
            self.wait()


SINGLE_PROCESS = ProcessGroup()


def started_by_torchrun() -> bool:
    """Whether this process already belongs to a group, so that none needs to be started."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def group_size(configured: int) -> int:
    """Number of processes that will share the work: those of torchrun, or else `configured`."""
    return int(os.environ["WORLD_SIZE"]) if started_by_torchrun() else configured


@contextmanager
def join_group() -> Iterator[ProcessGroup]:
    """Yield the group that the environment describes, or a single process. The main process leaves last."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield SINGLE_PROCESS
        return
    group = ProcessGroup(int(os.environ["RANK"]), size, _open_store(size))
    yield group
    group.store.add("left", 1)
    while group.is_main and group.store.add("left", 0) < size:
        time.sleep(POLL_SECONDS)


def _open_store(size: int) -> Store:
    import torch.distributed as dist

    if STORE in os.environ:
        return dist.FileStore(os.environ[STORE], size)
    store, _, _ = next(iter(dist.rendezvous("env://")))
    return store


Work = Callable[..., None]
"""Takes `should_stop` and the arguments of `run_processes`; importable by name."""


def _main(
    local: int,
    count: int,
    at_once: bool,
    store: str,
    reports: Any,
    work: Work,
    arguments: tuple[Any, ...],
    parent: int,
    lock: Path | None,
) -> None:
    """Run `work` as process number `local`, and report how it ended other than by success or a defect."""
    import torch

    if lock is not None:
        held = lock.open("a")
        fcntl.flock(held, fcntl.LOCK_SH)
    if os.getppid() != parent:
        raise SystemExit(STOPPED_CODE)
    keep_freed_memory()  # not inherited from the parent
    os.environ.update({"RANK": str(local), "LOCAL_RANK": str(local), "WORLD_SIZE": str(count), STORE: store})
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max((os.cpu_count() or 1) // count, 1))
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if at_once and not stop.is_set():
            stop.set()
            raise Stopped
        stop.set()

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, handle)
        work(stop.is_set, *arguments)
    except Stopped as stopped:
        reports.put(stopped)
        if at_once or isinstance(stopped, Aborted):  # the others would wait for this process
            raise SystemExit(STOPPED_CODE) from None
    except Exception as error:
        # The parent knows what to lower if memory has run out.
        report = MemoryError() if memory_ran_out(error) else explained(error)
        if report is None:
            raise
        reports.put(report)
        raise SystemExit(2) from None


def run_processes(
    count: int,
    work: Work,
    arguments: tuple[Any, ...],
    should_stop: Callable[[], bool],
    *,
    at_once: bool = False,
    lock: Path | None = None,
) -> None:
    """Run ``work(should_stop, *arguments)`` in `count` new processes on this machine, and wait for them.

    Inside, `join_group` gives their group. `should_stop` returns True there once it does here, or once the process
    receives SIGTERM. If one process fails, the others are ended; if this process is killed, they are asked to stop.

    Args:
        at_once: a process that has to stop raises `Stopped` at any point, for work that saves as it goes.
        lock: file that the processes lock together while they run, also after this process was killed.

    Raises:
        Stopped: the work did.
        UserError: the work did, in any process, or the disk is full.
        MemoryError: there is too little memory; usually the system has killed a process.
        ProcessExitedException, ProcessRaisedException: a process failed in another way.
    """
    from torch import multiprocessing as mp

    with tempfile.TemporaryDirectory() as folder:
        queue, store = mp.get_context("spawn").SimpleQueue(), Path(folder) / "store"
        settings = (count, at_once, str(store), queue, work, arguments, os.getpid(), lock)
        context = mp.start_processes(_main, settings, nprocs=count, join=False, start_method="spawn")
        asked_to_stop, failure = False, None
        try:
            while not context.join(POLL_SECONDS, grace_period=GRACE_SECONDS):
                store.touch()  # many systems remove temporary files that have not changed for days
                if should_stop() and not asked_to_stop:
                    asked_to_stop = True
                    for process in context.processes:
                        if process.is_alive():
                            process.terminate()
        except (mp.ProcessExitedException, mp.ProcessRaisedException) as error:
            failure = error
        reports = []
        while not queue.empty():
            reports.append(queue.get())
        cause = _cause(failure, reports, asked_to_stop)
        if cause:
            raise cause


def _cause(failure: Any, reports: list[Exception], asked_to_stop: bool) -> Exception | None:
    """Why the processes ended; processes that were ended because of another one's failure report, too."""
    for report in reports:
        if failure is None or isinstance(report, UserError | MemoryError):
            return report
    stopped = getattr(failure, "exit_code", None) == STOPPED_CODE
    # A process that does not handle signals yet dies of SIGTERM; one whose peer left first fails to receive a message.
    if stopped or (asked_to_stop and (reports or getattr(failure, "signal_name", None) == "SIGTERM")):
        return Stopped()
    if getattr(failure, "signal_name", None) == "SIGKILL":
        return MemoryError("a process was killed")
    return failure

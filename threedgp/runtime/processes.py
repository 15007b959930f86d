"""Processes that share the work of a stage: how they are started, who they are, and how they wait for each other.

Environment variables are those of torchrun. PyTorch is imported only where there are several processes, so that light
stages start fast.
"""

from __future__ import annotations

import errno
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
from threedgp.runtime.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import Store

POLL_SECONDS = 0.2
GRACE_SECONDS = 10
"""For processes whose fellow has failed, before they are killed: they may hang in a message to it."""
STOPPED_CODE = 128 + signal.SIGTERM
STORE = "THREEDGP_STORE"
"""Names the file over which processes that `run_processes` started find each other."""


class Stopped(Exception):
    """The work was asked to stop; what is finished is saved."""


class CutOff(Stopped):
    """This process left its work wherever it was, without the others, which may wait for it."""


class _Heard(BaseException):
    """A signal came. No Exception, so that no handler for damaged files eats it."""


@contextmanager
def cut_off(should_stop: Callable[[], bool]) -> Iterator[None]:
    """Let SIGINT and SIGTERM, which otherwise only make `should_stop` say so, end the body wherever it is.

    Raises:
        CutOff: the process was asked to stop, now or before.
    """
    inside = True

    def hear(number: int, frame: FrameType | None) -> None:
        nonlocal inside
        earlier = before[number]
        if callable(earlier):
            earlier(number, frame)
        if inside:
            inside = False
            raise _Heard

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, hear)
        if should_stop():
            raise CutOff
        yield
        inside = False
    except _Heard:
        raise CutOff from None
    finally:
        inside = False
        for number in numbers:
            signal.signal(number, before[number])


FULL_DISK = "the disk is full; free some space and run the same command again, it goes on from here."


def disk_is_full(error: BaseException | None) -> bool:
    """Whether `error` is a full disk's, or was raised while one was handled."""
    while error is not None:
        # Some writers (safetensors, torch) wrap the operating system's error in their own.
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


@dataclass(frozen=True)
class Team:
    """One process, number `rank`, of the `size` that share some work."""

    rank: int = 0
    size: int = 1
    store: Store | None = field(default=None, repr=False, compare=False)
    """Counters that all of them see; None where there is one process."""

    @property
    def leads(self) -> bool:
        """Whether this process writes what belongs to all, and speaks to people."""
        return self.rank == 0

    def wait(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Go on once all processes have come to the same call, however long that takes; `meanwhile` is called often.

        Counters are looked at again and again, so that a signal is heard at once, and none runs into the time limits
        of a collective operation when another one has hours more to do.
        """
        if self.store is None:
            return
        turn = self.store.add(f"turn of {self.rank}", 1)
        self.store.add(f"arrived at {turn}", 1)
        while self.store.add(f"arrived at {turn}", 0) < self.size:
            meanwhile()
            time.sleep(POLL_SECONDS)

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Let the first process through the body alone, such as one that downloads, and then the others."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()


ALONE = Team()


def started_by_torchrun() -> bool:
    """Whether this process is already one of a team, which needs no further ones."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextmanager
def join_team() -> Iterator[Team]:
    """The team that the environment names, or a team of one. The first process leaves it last."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    team = Team(int(os.environ["RANK"]), size, _open_store(size))
    yield team
    team.store.add("left", 1)
    while team.leads and team.store.add("left", 0) < size:
        time.sleep(POLL_SECONDS)


def _open_store(size: int) -> Store:
    import torch.distributed as dist

    if STORE in os.environ:
        return dist.FileStore(os.environ[STORE], size)
    store, _, _ = next(iter(dist.rendezvous("env://")))
    return store


Work = Callable[..., None]
"""Takes a question, whether to stop, and then the arguments of `run_processes`; importable by name."""


def _begin(
    local: int, count: int, at_once: bool, store: str, reports: Any, work: Work, arguments: tuple[Any, ...]
) -> None:
    import torch

    keep_freed_memory()  # the parent's choice does not come along
    os.environ.update(RANK=str(local), LOCAL_RANK=str(local), WORLD_SIZE=str(count))
    os.environ[STORE] = store
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max((os.cpu_count() or 1) // count, 1))
    stop = threading.Event()

    def hear(number: int, frame: FrameType | None) -> None:
        if at_once and not stop.is_set():
            stop.set()
            raise Stopped
        stop.set()

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, hear)
        work(stop.is_set, *arguments)
    except Stopped as stopped:
        reports.put(stopped)
        if at_once or isinstance(stopped, CutOff):  # the others would wait for this one
            raise SystemExit(STOPPED_CODE) from None
    except UserError as error:
        reports.put(error)
        raise SystemExit(2) from None
    except Exception as error:
        if not disk_is_full(error):
            raise
        reports.put(UserError(FULL_DISK))
        raise SystemExit(2) from None


def run_processes(
    count: int,
    work: Work,
    arguments: tuple[Any, ...],
    should_stop: Callable[[], bool],
    *,
    at_once: bool = False,
) -> None:
    """Run ``work(should_stop, *arguments)`` in `count` new processes on this machine, and wait for them.

    Inside, `join_team` gives the team. Once `should_stop` says so here, or a process gets SIGTERM, it says so there. If
    one process fails, the others are ended; if this process is killed, they are asked to stop.

    Args:
        at_once: a process that is to stop raises `Stopped` wherever it is, for work that saves as it goes.

    Raises:
        Stopped: the work did.
        UserError: the work did, in any process, or the disk is full.
        ProcessExitedException, ProcessRaisedException: a process was killed, or failed in another way.
    """
    from torch import multiprocessing as mp

    with tempfile.TemporaryDirectory() as folder:
        reports = mp.get_context("spawn").SimpleQueue()
        everything = (count, at_once, str(Path(folder) / "store"), reports, work, arguments)
        processes = mp.start_processes(_begin, everything, nprocs=count, join=False, start_method="spawn")
        told = False
        try:
            while not processes.join(POLL_SECONDS, grace_period=GRACE_SECONDS):
                if should_stop() and not told:
                    told = True
                    for process in processes.processes:
                        if process.is_alive():
                            process.terminate()
        except (mp.ProcessExitedException, mp.ProcessRaisedException) as failure:
            raise _cause(failure, told, _told_by(reports)) from None
        for report in _told_by(reports):
            raise report


def _told_by(reports: Any) -> list[Exception]:
    told = []
    while not reports.empty():
        told.append(reports.get())
    return told


def _cause(failure: Any, told: bool, reports: list[Exception]) -> Exception:
    """Why the processes ended: `failure` is that of one of them, and those that were ended for it report, too."""
    for report in reports:
        if isinstance(report, UserError):
            return report
    stopped = getattr(failure, "exit_code", None) == STOPPED_CODE
    # One that was told before it was able to listen dies of the signal, one whose fellow left first of a lost message.
    if stopped or (told and (reports or getattr(failure, "signal_name", None) == "SIGTERM")):
        return Stopped()
    return failure

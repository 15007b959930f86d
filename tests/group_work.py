"""What the processes of tests/test_processes.py do; processes import their work by name."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import torch

from threedgp.runtime.processes import STORE, Stopped, interruptible, join_group


def meet(should_stop: Callable[[], bool], folder: Path) -> None:
    """Rank 1 comes late; nobody passes before it, and the first leaves last."""
    with join_group() as group:
        with group.main_process_first():
            (folder / f"entered-{group.rank}").touch()
            assert group.is_main or (folder / "ready").exists()
            (folder / "ready").touch()
        if group.rank == 1:
            time.sleep(0.5)
            (folder / "late").touch()
        group.wait()
        assert (folder / "late").exists()
        if group.rank == 1:
            time.sleep(0.5)
            (folder / "last words").touch()
    if group.is_main:
        assert (folder / "last words").exists()


def die(should_stop: Callable[[], bool]) -> None:
    """The second is killed while the first waits for it."""
    with join_group() as group:
        if group.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        group.wait()


def age_the_store(should_stop: Callable[[], bool], aged: Path) -> None:
    """Make the file over which processes find each other old, tell so by a file, and wait until it is not."""
    store = Path(os.environ[STORE])
    store.touch()
    os.utime(store, (0, 0))
    aged.touch()
    while store.stat().st_mtime == 0:
        if should_stop():
            raise Stopped
        time.sleep(0.05)


def hang_and_tell(should_stop: Callable[[], bool], folder: Path) -> None:
    """The second tells its process id; the first waits for it."""
    with join_group() as group:
        if group.rank == 1:
            (folder / f"pid-{os.getpid()}").touch()
            time.sleep(60)
        group.wait()


def hang_interruptibly(should_stop: Callable[[], bool], folder: Path) -> None:
    """As `hang_and_tell`, in work that saves itself."""
    with interruptible(should_stop):
        hang_and_tell(should_stop, folder)


def fill_the_disk(should_stop: Callable[[], bool]) -> None:
    """A write fails, and what is raised for it does not say why."""
    try:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    except OSError:
        raise RuntimeError("unexpected pos 768 vs 662")  # noqa: B904


def take_all_memory(should_stop: Callable[[], bool]) -> None:
    """Memory runs out in the second, as PyTorch reports it."""
    with join_group() as group:
        if group.rank == 1:
            torch.empty(2**46)
        group.wait()


def work_until_told(should_stop: Callable[[], bool], folder: Path) -> None:
    """Work that cannot stop at once."""
    (folder / f"began-{os.getpid()}").touch()
    while not (folder / "end").exists():
        time.sleep(0.05)
    (folder / f"ended-{os.getpid()}").touch()

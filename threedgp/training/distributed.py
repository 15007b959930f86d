"""Processes that train together: what they add up, how they agree, and how they are started.

Every process holds both networks and works on its share of each batch. Gradients are added up in one message a phase;
a step takes several backward passes (pieces of the batch, R1, cameras), which that leaves alone. Environment variables
are those of torchrun.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch import multiprocessing as mp

from threedgp.errors import UserError

POLL_SECONDS = 0.2
GRACE_SECONDS = 10
"""For processes whose fellow has failed, before they are killed: they may hang in a message to it."""
_STORE = "THREEDGP_STORE"


class Stopped(Exception):
    """Training was asked to stop; its state is saved."""


@dataclass(frozen=True)
class Team:
    """One process, number `rank`, of the `size` that train the same model."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks to people."""
        return self.rank == 0

    @torch.no_grad()
    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor (all of one dtype and device) by its sum over all processes."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set in any process."""
        if self.size == 1:
            return flag
        votes = torch.tensor([int(flag)])
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return bool(votes)

    def follow(self, number: int) -> int:
        """The leader's `number`, in every process."""
        if self.size == 1:
            return number
        box = torch.tensor([number])
        dist.broadcast(box, src=0)
        return int(box)


ALONE = Team()


def started_by_torchrun() -> bool:
    """Whether this process is already one of a team, which needs no further ones."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextmanager
def join_team(device: torch.device) -> Iterator[tuple[Team, torch.device]]:
    """The team that the environment names, or a team of one; and the device of this process.

    Args:
        device: kind of device; on a machine with several GPUs each local process takes its own.

    Raises:
        UserError: more processes on this machine than GPUs.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE, device
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    backend = "gloo"
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise UserError(
                f"machine.processes: process {local + 1} of this machine finds only {torch.cuda.device_count()} GPUs; "
                "start one process for each."
            )
        device, backend = torch.device("cuda", local), "cpu:gloo,cuda:nccl"  # flags travel as CPU tensors
        torch.cuda.set_device(device)
    store = dist.FileStore(os.environ[_STORE], size) if _STORE in os.environ else None
    dist.init_process_group(backend, rank=rank, world_size=size, store=store)
    try:
        yield Team(rank, size), device
    finally:
        dist.destroy_process_group()


Work = Callable[..., None]
"""Takes a question, whether to stop, and then the arguments of `run_processes`; importable by name."""


def _begin(local: int, count: int, store: str, reports: Any, work: Work, arguments: tuple[Any, ...]) -> None:
    os.environ.update(RANK=str(local), LOCAL_RANK=str(local), WORLD_SIZE=str(count))
    os.environ[_STORE] = store
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max((os.cpu_count() or 1) // count, 1))
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        work(stop.is_set, *arguments)
    except Stopped as stopped:
        reports.put(stopped)
    except UserError as error:
        reports.put(error)
        raise SystemExit(2) from None


def run_processes(count: int, work: Work, arguments: tuple[Any, ...], should_stop: Callable[[], bool]) -> None:
    """Run ``work(should_stop, *arguments)`` in `count` new processes on this machine, and wait for them.

    Inside, `join_team` gives the team. Once `should_stop` says so here, or a process gets SIGTERM, it says so there. If
    one process fails, the others are ended; if this process is killed, they are asked to stop.

    Raises:
        Stopped: the work did.
        UserError: the work did, in any process.
        ProcessExitedException, ProcessRaisedException: a process was killed, or failed in another way.
    """
    with tempfile.TemporaryDirectory() as folder:
        reports = mp.get_context("spawn").SimpleQueue()
        everything = (count, str(Path(folder) / "store"), reports, work, arguments)
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
            if reports.empty():
                if told and getattr(failure, "signal_name", None) == "SIGTERM":
                    raise Stopped from None  # told before it was able to listen
                raise
        if not reports.empty():
            raise reports.get()

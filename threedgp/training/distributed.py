"""Data-parallel training: what the processes sum and how they agree.

Every process holds both networks and works on its share of each batch. A step consists of several backward passes
(pieces of the batch, R1, cameras), so that gradients are summed in one message per phase instead of by
`DistributedDataParallel`. `threedgp.runtime.processes` starts the processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from threedgp.runtime import processes
from threedgp.runtime.errors import UserError


class TrainingGroup(processes.ProcessGroup):
    """The processes that train the same model, as seen by the one with rank `rank`."""

    @torch.no_grad()
    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes; all have the same dtype and device."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def max(self, number: int) -> int:
        """The largest `number` of all processes."""
        if self.size == 1:
            return number
        largest = torch.tensor(number)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return int(largest)

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in any process."""
        return bool(self.max(int(flag)))


SINGLE_PROCESS = TrainingGroup()


@contextmanager
def join_training_group(device: torch.device) -> Iterator[TrainingGroup]:
    """Yield the group that the environment describes, or a single process. Its messages use `device`."""
    with processes.join_group() as group:
        if group.store is None:
            yield SINGLE_PROCESS
            return
        backend = "gloo"
        if device.type == "cuda":
            backend = "cpu:gloo,cuda:nccl"  # flags are CPU tensors
            torch.cuda.set_device(device)
        store = dist.PrefixStore("training", group.store)
        try:
            dist.init_process_group(backend, rank=group.rank, world_size=group.size, store=store)
        except RuntimeError as error:
            raise UserError(
                f"machine.processes: the processes cannot reach each other ({str(error).splitlines()[0]}); activate "
                "the loopback interface, name another one in GLOO_SOCKET_IFNAME, or set machine.processes to 1."
            ) from None
        try:
            yield TrainingGroup(group.rank, group.size, group.store)
        finally:
            dist.destroy_process_group()

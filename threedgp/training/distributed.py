"""Processes that train together: what they add up and how they agree.

Every process holds both networks and works on its share of each batch. Gradients are added up in one message a phase;
a step takes several backward passes (pieces of the batch, R1, cameras), which that leaves alone.
`threedgp.runtime.processes` starts them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from threedgp.runtime import processes


class Team(processes.Team):
    """One process, number `rank`, of the `size` that train the same model."""

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


@contextmanager
def join_team(device: torch.device) -> Iterator[tuple[Team, torch.device]]:
    """The team that the environment names, or a team of one; and `device`, on which its messages travel."""
    with processes.join_team() as team:
        if team.store is None:
            yield ALONE, device
            return
        backend = "gloo"
        if device.type == "cuda":
            backend = "cpu:gloo,cuda:nccl"  # flags travel as CPU tensors
            torch.cuda.set_device(device)
        store = dist.PrefixStore("training", team.store)
        dist.init_process_group(backend, rank=team.rank, world_size=team.size, store=store)
        try:
            yield Team(team.rank, team.size, team.store), device
        finally:
            dist.destroy_process_group()

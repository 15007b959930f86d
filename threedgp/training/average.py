"""Exponential moving average of a network's weights."""

from __future__ import annotations

import torch
from torch import nn


class MovingAverage:
    """Lets `average` follow `network`.

    Tensors are looked up once: walking through the modules takes longer than all the rest.
    """

    def __init__(self, average: nn.Module, network: nn.Module) -> None:
        self._parameters = list(average.parameters()), list(network.parameters())
        self._buffers = list(zip(average.buffers(), network.buffers(), strict=True))

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Parameters move towards the network's by `1 - decay`; buffers (already averages or constants) are copied."""
        torch._foreach_lerp_(*self._parameters, 1 - decay)
        for target, source in self._buffers:
            target.copy_(source)

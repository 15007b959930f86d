"""Exponential moving average of a network's weights."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move `average` towards `network`: parameters by `1 - decay`, buffers (already averages or constants) copied."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
    for target, source in zip(average.buffers(), network.buffers(), strict=True):
        target.copy_(source)

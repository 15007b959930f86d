"""Small constant tensors, made once for each device: a GPU would have to wait for numbers from the host."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


@functools.lru_cache(maxsize=256)
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """`values` as a tensor `[len(values)]`, which nobody may write to."""
    # Made outside of inference mode: a tensor of that mode could not be used in training later.
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)

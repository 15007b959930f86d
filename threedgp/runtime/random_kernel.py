"""The random numbers of `counter_rng` on GPUs: one kernel for a draw, where PyTorch needs some forty."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

MAX_BLOCK = 1024
"""Numbers that a program draws."""


@triton.jit
def _mix(x):
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


@triton.jit(do_not_specialize=["prefix"])
def random_kernel(index, out, prefix, numbers, NORMAL: tl.constexpr, BLOCK: tl.constexpr):
    """Draws `BLOCK` of the `numbers` of one sample."""
    STEP: tl.constexpr = -7046029254386353131
    row, place = tl.program_id(0), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    state = _mix((prefix.to(tl.int64) ^ tl.load(index + row)) + STEP)
    bits = _mix(state + (place.to(tl.int64) + 1) * STEP)
    dtype: tl.constexpr = out.dtype.element_ty
    if NORMAL:  # Box and Muller
        radius = (((bits >> 32) & 0xFFFFFFFF) + 1).to(dtype) * 2.0**-32
        angle = (bits & 0xFFFFFFFF).to(dtype) * (2.0**-32 * 2 * 3.141592653589793)
        value = tl.sqrt(-2 * tl.log(radius)) * tl.cos(angle)
    else:
        value = ((bits >> 40) & 0xFFFFFF).to(dtype) * 2.0**-24
    tl.store(out + row.to(tl.int64) * numbers + place, value, mask=place < numbers)


def draw(shape: Sequence[int], prefix: int, index: Tensor, dtype: torch.dtype, *, is_normal: bool) -> Tensor:
    """Uniform or normal numbers of `shape`.

    `index`, int64 `[shape[0]]`, is the last part of the key, and `prefix` the state before it.
    """
    out = torch.empty(tuple(shape), dtype=dtype, device=index.device)
    numbers = math.prod(shape[1:])
    if out.numel():
        grid = shape[0], triton.cdiv(numbers, MAX_BLOCK)
        block = min(triton.next_power_of_2(numbers), MAX_BLOCK)
        with torch.cuda.device_of(out):
            random_kernel[grid](index.contiguous(), out, prefix, numbers, NORMAL=is_normal, BLOCK=block)
    return out

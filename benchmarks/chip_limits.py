"""Rates of a GPU that bound the renderer: gathering rows and adding to rows."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from measuring import median_seconds
from torch import Tensor


@triton.jit
def _gather_rows(table, rows, out, total, M: tl.constexpr, C: tl.constexpr):
    first = tl.program_id(0) * M * 12
    sums = tl.zeros((M, C), tl.float32)
    for k in tl.static_range(12):
        member = first + tl.arange(0, M) * 12 + k
        row = tl.load(rows + member, mask=member < total, other=0)
        sums += tl.load(table + row.to(tl.int64)[:, None] * C + tl.arange(0, C)[None, :])
    tl.store(out + tl.program_id(0) * M + tl.arange(0, M), tl.sum(sums, axis=1))


@triton.jit
def _add_to_rows(table, rows, value, total, M: tl.constexpr, C: tl.constexpr):
    first = tl.program_id(0) * M * 12
    values = tl.zeros((M, C), tl.float32) + value
    for k in tl.static_range(12):
        member = first + tl.arange(0, M) * 12 + k
        row = tl.load(rows + member, mask=member < total, other=0)
        pointers = table + row.to(tl.int64)[:, None] * C + tl.arange(0, C)[None, :]
        tl.atomic_add(pointers, values, mask=(member < total)[:, None], sem="relaxed")


def row_times(table: Tensor, rows: Tensor) -> tuple[float, float]:
    """Seconds to gather and to add to the given rows (int32, 12 for each sample, in the order of samples).

    The addresses are those of the benchmark, so caches help as much as they help the renderer.
    """
    channels, block = table.shape[1], 64
    programs = triton.cdiv(rows.numel(), block * 12)
    out = torch.empty(programs * block, device="cuda")
    size = dict(M=block, C=channels, num_warps=4)
    gather = median_seconds(lambda: _gather_rows[(programs,)](table, rows, out, rows.numel(), **size))
    scatter = median_seconds(lambda: _add_to_rows[(programs,)](table, rows, 1e-6, rows.numel(), **size))
    return gather, scatter

"""How planes lie in memory: the engines read and add to texels, rows of C neighboring numbers."""

from __future__ import annotations

import torch
from torch import Tensor


def _rows_are_dense(planes: Tensor) -> bool:
    channels = planes.shape[-1]
    return planes.stride(-1) == 1 and all(stride % channels == 0 for stride in planes.stride()[:4])


def addressable(planes: Tensor) -> Tensor:
    """Planes in the layout that the kernels need: C contiguous and 16-byte aligned, all strides multiples of C.

    The channels-last output of a backbone, viewed as `[B, 3, H, W, C]`, has it already; other planes are copied.
    """
    if _rows_are_dense(planes) and planes.data_ptr() % 16 == 0:
        return planes
    return planes.clone(memory_format=torch.contiguous_format)


def zeros_like_planes(planes: Tensor, dtype: torch.dtype) -> Tensor:
    """Zeros in the memory layout of the planes if it is dense and the kernels can use it, else contiguous."""
    zeros = torch.zeros_like(planes, dtype=dtype, memory_format=torch.preserve_format)
    return zeros if _rows_are_dense(zeros) else torch.zeros_like(zeros, memory_format=torch.contiguous_format)

"""Floating-point precision of training, and its exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["fp32", "tf32", "bf16"]


def use_precision(precision: Precision) -> torch.dtype | None:
    """Configure PyTorch for `precision`, for the whole process. Returns the dtype of the activations of convolutions,
    None = that of their weights. Everything else (weights, styles and demodulation, mapping, cameras, rays, rendering,
    R1, optimizers) stays in float32; `threedgp.render` chooses the precision of its kernels by itself."""
    # Convolutions are most of the work. Matrix products (mapping, demodulation, rays) are small and need the precision.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    return torch.bfloat16 if precision == "bf16" else None


@contextmanager
def restored_precision() -> Iterator[None]:
    """Context manager that restores the precision of the process at its end."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Context manager in which convolutions, forward and backward, use full float32 precision."""
    with restored_precision():
        torch.backends.cudnn.allow_tf32 = False
        yield

"""Which numbers training computes with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["fp32", "tf32", "bf16"]


def use_precision(precision: Precision) -> torch.dtype | None:
    """Set PyTorch up for `precision`, for the whole process.

    Returns:
        dtype of the activations of backbone and discriminator; None = that of their weights. Everything else (weights,
        styles and demodulation, mapping, cameras, rays, rendering, R1, optimisers) stays in float32.
    """
    # Convolutions are nearly all of the work. Matrix products (mapping, demodulation, rays) are small, and coordinates
    # and styles cannot spare the bits.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    return torch.bfloat16 if precision == "bf16" else None


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Within, convolutions keep all bits of float32, backward ones that run within, too."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before

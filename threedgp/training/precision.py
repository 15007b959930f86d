"""Which numbers training computes with."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["fp32", "tf32", "bf16"]


def use_precision(precision: Precision) -> torch.dtype | None:
    """Set PyTorch up for `precision`, for the whole process.

    Returns:
        dtype of the activations of backbone and discriminator; None = that of their weights. Everything else (weights,
        styles and demodulation, mapping, cameras, rays, rendering, R1, optimisers) stays in float32.
    """
    # PyTorch's own default lets convolutions round to tf32 and matrix products not.
    allowed = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
    return torch.bfloat16 if precision == "bf16" else None

"""Blur of everything that the discriminator sees, early in training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def blur(images: Tensor, sigma: float) -> Tensor:
    """Separable blur of `[B, C, H, W]` with the kernel 2^(-(i / sigma)^2), |i| <= 3 sigma, zero beyond the border."""
    radius = int(3 * sigma)
    if radius < 1:
        return images
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp2(-((offsets / sigma) ** 2))
    kernel = kernel / kernel.sum()
    # Blurring a line of pixels is a product with a banded matrix: one small matrix product for each axis.
    return _band(kernel, images.shape[-2]) @ images @ _band(kernel, images.shape[-1])


def _band(kernel: Tensor, size: int) -> Tensor:
    """Symmetric matrix `[size, size]` whose rows hold `kernel` around the diagonal."""
    radius = len(kernel) // 2
    padded = F.pad(kernel, (size, size))
    index = torch.arange(size, device=kernel.device)
    return padded[size + radius + index[:, None] - index[None, :]]

"""Patches that the discriminator sees (EpiGRAF: Skorokhodov et al. 2022, section 3.3), and their blur early on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.camera.geometry import Patches


def draw_patches(u_scale: Tensor, u_offset: Tensor, *, scale_min: float, beta: float, group: int) -> Patches:
    """Patches with one scale for each group of neighboring samples, as in the minibatch standard deviation.

    The scale is ``scale_min + (1 - scale_min) x`` with x from Beta(1, beta), drawn by the inverse of its distribution
    function 1 - (1 - x)^beta. A small beta shows whole images. Uniform numbers are `[B]`, of which the first of each
    group is used, and `[B, 2]`.
    """
    x = 1 - (1 - u_scale[::group]) ** (1 / beta)
    scale = (scale_min + (1 - scale_min) * x).repeat_interleave(group)[: len(u_scale)]
    scales = scale[:, None].expand(-1, 2)
    return Patches(scales, u_offset * (1 - scales))


def blur(images: Tensor, sigma: float) -> Tensor:
    """Separable blur of `[B, C, H, W]` with the kernel 2^(-(i / sigma)^2), |i| <= 3 sigma, zero beyond the border.

    This is a Gaussian, of which `sigma` is the half width at half maximum, as in the published code; its standard
    deviation is 0.85 sigma.
    """
    radius = int(3 * sigma)
    if radius < 1:
        return images
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp2(-((offsets / sigma) ** 2))
    kernel = kernel / kernel.sum()
    # Blurring an axis is a product with a banded matrix.
    return _band(kernel, images.shape[-2]) @ images @ _band(kernel, images.shape[-1])


def _band(kernel: Tensor, size: int) -> Tensor:
    """Symmetric matrix `[size, size]` whose rows hold `kernel` around the diagonal."""
    radius = len(kernel) // 2
    padded = F.pad(kernel, (size, size))
    index = torch.arange(size, device=kernel.device)
    return padded[size + radius + index[:, None] - index[None, :]]

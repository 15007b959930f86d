"""A modulated layer on the features of points."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from threedgp.models.layers import GAINS, EqualizedLinear, activate


class ModulatedLinear(nn.Module):
    """Linear layer on points whose input channels are scaled by a style, with demodulation (Karras et al. 2020), bias
    and leaky ReLU."""

    def __init__(self, in_features: int, out_features: int, w_dim: int) -> None:
        super().__init__()
        self.affine = EqualizedLinear(w_dim, in_features, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map x `[B, N, in]` and w `[B, w_dim]` to `[B, N, out]`."""
        style = self.affine(w)
        demodulation = torch.rsqrt(style.square() @ self.weight.square().t() + 1e-8)  # [B, out]
        weight = self.weight * style[:, None] * demodulation[:, :, None]  # [B, out, in]
        return activate(torch.baddbmm(self.bias, x, weight.mT), "leaky_relu") * GAINS["leaky_relu"]

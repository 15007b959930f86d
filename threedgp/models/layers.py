"""Layers with equalised learning rate (Karras et al. 2018, section 4.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from threedgp.models.modulation import LEAKY_SLOPE, activate_modulated, modulate
from threedgp.models.resample import downsample, smooth
from threedgp.models.winograd import convolve

Activation = Literal["linear", "leaky_relu", "softplus"]

GAINS: dict[Activation, float] = {"linear": 1.0, "leaky_relu": math.sqrt(2), "softplus": 1.0}
"""Of each activation; that of leaky ReLU keeps the variance. Leaky ReLU commutes with a positive factor, so that layers
put the gain into their weights and biases, which are far smaller than activations."""


def activate(x: Tensor, activation: Activation) -> Tensor:
    """The activation (leaky ReLU with slope 0.2) of values that its gain is already in."""
    if activation == "leaky_relu":
        return F.leaky_relu(x, LEAKY_SLOPE)
    if activation == "softplus":
        return F.softplus(x)
    return x


def normalize_second_moment(x: Tensor) -> Tensor:
    """`[B, C]` scaled so that the mean square over C is 1."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


class EqualizedLinear(nn.Module):
    """Linear layer whose weights are stored at unit scale and used with gain `lr_multiplier / sqrt(fan_in)`."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activation: Activation = "linear",
        bias_init: float = 0.0,
        lr_multiplier: float = 1.0,
    ) -> None:
        super().__init__()
        self.activation: Activation = activation
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier))
        self.weight_gain = lr_multiplier / math.sqrt(in_features) * GAINS[activation]
        self.bias_gain = lr_multiplier * GAINS[activation]

    def effective(self) -> tuple[Tensor, Tensor]:
        """Weight `[out, in]` and bias `[out]` with all gains, that of the activation too."""
        return self.weight * self.weight_gain, self.bias * self.bias_gain

    def forward(self, x: Tensor) -> Tensor:
        """`[B, in]` to `[B, out]`."""
        # The product applies the gains as it goes.
        x = torch.addmm(self.bias, x, self.weight.t(), beta=self.bias_gain, alpha=self.weight_gain)
        return activate(x, self.activation)


def side_by_side(layers: Sequence[EqualizedLinear], x: Tensor) -> Tensor:
    """Results of linear layers of the same gains for the same `[B, in]`, next to each other: `[B, sum of out]`.

    One product in place of several, each of which would be short of work on any device.
    """
    weight, bias = (torch.cat([getattr(layer, name) for layer in layers]) for name in ("weight", "bias"))
    return torch.addmm(bias, x, weight.t(), beta=layers[0].bias_gain, alpha=layers[0].weight_gain)


class EqualizedConv(nn.Module):
    """Convolution with equalised learning rate, same size or (with `down`) half size."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        activation: Activation = "linear",
        bias: bool = True,
        down: bool = False,
        gain: float = 1.0,
    ) -> None:
        """`gain` scales the result."""
        super().__init__()
        self.activation: Activation = activation
        self.down = down
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.bias_gain = gain * GAINS[activation]
        self.weight_gain = self.bias_gain / math.sqrt(in_channels * kernel_size**2)

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """`[B, in, H, W]` to `[B, out, H, W]` or half of that, computed in the dtype of x.

        `scale`, `[B, out]` and nowhere negative, multiplies the result (None = 1).
        """
        weight, padding = (self.weight * self.weight_gain).to(x.dtype), self.weight.shape[-1] // 2
        bias = None if self.bias is None else self.bias * self.bias_gain
        activated = self.activation == "leaky_relu" and bias is not None
        inside = None if activated or bias is None else bias.to(x.dtype)
        if not self.down:
            x = convolve(x, weight, inside) if padding == 1 else F.conv2d(x, weight, inside, padding=padding)
        elif padding == 0:
            x = F.conv2d(downsample(x), weight, inside)
        else:
            # Filter first, a pixel wider on every side, so that the strided convolution sees no extra border.
            x = F.conv2d(smooth(x, padding=padding + 1), weight, inside, stride=2)
        if activated:
            return activate_modulated(x, scale, bias if scale is None else bias * scale)
        x = activate(x, self.activation)
        return x if scale is None else modulate(x, scale)

"""Layers with equalized learning rate (Karras et al. 2018, section 4.1)."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from threedgp.models.resample import downsample, smooth

Activation = Literal["linear", "leaky_relu", "softplus"]

GAINS: dict[Activation, float] = {"linear": 1.0, "leaky_relu": math.sqrt(2), "softplus": 1.0}
"""Gain of each activation; that of leaky ReLU keeps the variance. Leaky ReLU commutes with a positive factor, so layers
apply the gain to their weights and biases, which are far smaller than activations."""


@contextmanager
def own_seed(part: str) -> Iterator[None]:
    """Initialize a part of a network from a seed of its own: the seed in use and the name of the part.

    Parts that depend on a switch are made in this context, so that the switch leaves the initial weights of all other
    parts as they are.
    """
    seed = zlib.crc32(f"{torch.initial_seed()} {part}".encode())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def activate(x: Tensor, activation: Activation) -> Tensor:
    """Apply an activation without its gain; leaky ReLU has slope 0.2 and overwrites `x`, which no gradient may need."""
    if activation == "leaky_relu":
        return F.leaky_relu(x, 0.2, inplace=True)
    if activation == "softplus":
        return F.softplus(x)
    return x


def normalize_second_moment(x: Tensor) -> Tensor:
    """Scale x `[B, C]` so that the mean square over C is 1."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


def scale_channels(x: Tensor, scale: Tensor) -> Tensor:
    """Multiply x `[B, C, H, W]` by scale `[B, C]`, in the dtype of x."""
    return x * scale[:, :, None, None].to(x.dtype)


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
        """Weight `[out, in]` and bias `[out]` with all gains applied."""
        return self.weight * self.weight_gain, self.bias * self.bias_gain

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., in]` to `[..., out]`."""
        shape, x = x.shape[:-1], x.flatten(0, -2)
        x = torch.addmm(self.bias, x, self.weight.t(), beta=self.bias_gain, alpha=self.weight_gain)
        return activate(x, self.activation).unflatten(0, shape)


class EqualizedConv(nn.Module):
    """Convolution with equalized learning rate, same size or (with `down`) half size."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        activation: Activation = "linear",
        bias: bool = True,
        down: bool = False,
    ) -> None:
        super().__init__()
        self.activation: Activation = activation
        self.down = down
        self.padding = kernel_size // 2
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.bias_gain = GAINS[activation]
        self.weight_gain = self.bias_gain / math.sqrt(in_channels * kernel_size**2)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, in, H, W]` to `[B, out, H, W]` or half of that, computed in the dtype of x."""
        weight = (self.weight * self.weight_gain).to(x.dtype)
        bias = None if self.bias is None else (self.bias * self.bias_gain).to(x.dtype)
        if not self.down:
            x = F.conv2d(x, weight, bias, padding=self.padding)
        elif self.padding == 0:
            x = F.conv2d(downsample(x), weight, bias)
        else:
            # The filter comes first and keeps a border of one pixel for the strided convolution.
            x = F.conv2d(smooth(x, padding=self.padding + 1), weight, bias, stride=2)
        return activate(x, self.activation)

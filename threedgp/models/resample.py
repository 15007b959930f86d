"""Resampling with the [1, 3, 3, 1] filter."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_LINE = (1.0, 3.0, 3.0, 1.0)


def _kernel(x: Tensor, gain: float) -> Tensor:
    line = torch.tensor(_LINE, dtype=x.dtype, device=x.device)
    kernel = torch.outer(line, line)
    return (kernel * (gain / kernel.sum())).expand(x.shape[1], 1, 4, 4)


class _Filter(torch.autograd.Function):
    """Depthwise convolution with the constant filter.

    PyTorch's own second derivative of a grouped convolution loops over the channels to find the gradient of weights
    that nobody asks for; R1 takes that path. A linear map and its transpose, each the other's derivative, do not.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: float, stride: int, padding: int) -> Tensor:
        ctx.settings = (gain, stride, padding)
        return F.conv2d(x, _kernel(x, gain), stride=stride, padding=padding, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        gain, stride, padding = ctx.settings
        if stride == 2:
            return _Spread.apply(grad, gain), None, None, None
        return _Filter.apply(grad, gain, 1, 3 - padding), None, None, None  # symmetric: its own transpose


class _Spread(torch.autograd.Function):
    """Transpose of `_Filter` with stride 2 and padding 1: `[B, C, H, W]` to twice the size.

    Zeros between the pixels and the filter [1, 3, 3, 1] are bilinear interpolation with zeros beyond the border.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: float) -> Tensor:
        ctx.gain = gain
        spread = F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=2, mode="bilinear", align_corners=False)
        return spread[..., 2:-2, 2:-2] * (gain / 4)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _Filter.apply(grad, ctx.gain, 2, 1), None


def smooth(x: Tensor, *, gain: float = 1.0, padding: int) -> Tensor:
    """`[B, C, H, W]` filtered, `padding` zeros around it: `[B, C, H + 2 padding - 3, ...]`."""
    return _Filter.apply(x, gain, 1, padding)


def downsample(x: Tensor) -> Tensor:
    """Half-size `[B, C, H, W]` (H and W even): filter, then every second pixel."""
    return _Filter.apply(x, 1.0, 2, 1)


def upsample(x: Tensor) -> Tensor:
    """Double-size `[B, C, H, W]`: zeros in between, then the filter with gain 4."""
    return _Spread.apply(x, 4.0)

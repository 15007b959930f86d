"""Resampling with the [1, 3, 3, 1] filter."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_LINE = (1.0, 3.0, 3.0, 1.0)


@functools.lru_cache(maxsize=64)
def _kernel(channels: int, gain: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Made outside of inference mode: a tensor of that mode could not be used in training later.
    with torch.inference_mode(False), torch.no_grad():
        line = torch.tensor(_LINE, dtype=dtype, device=device)
        kernel = torch.outer(line, line)
        return (kernel * (gain / kernel.sum())).repeat(channels, 1, 1, 1)


class _Filter(torch.autograd.Function):
    """Depthwise convolution with the constant filter.

    PyTorch's own second derivative of a grouped convolution loops over the channels to find the gradient of weights
    that nobody asks for; R1 takes that path. A linear map and its transpose, each the other's derivative, do not.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: float, stride: int, padding: int) -> Tensor:
        ctx.settings = (gain, stride, padding)
        channels = x.shape[1]
        return F.conv2d(x, _kernel(channels, gain, x.dtype, x.device), stride=stride, padding=padding, groups=channels)

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

"""Resampling with the [1, 3, 3, 1] filter, as in StyleGAN2 (Karras et al. 2020, section 2; Zhang 2019)."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def _make_kernel(channels: int, gain: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    taps = 4 - 2 * (torch.arange(4, dtype=dtype, device=device) - 1.5).abs()  # a list would be copied to the device
    return (torch.outer(taps, taps) * (gain / 64)).repeat(channels, 1, 1, 1)


@functools.lru_cache(maxsize=64)
def _kernel(channels: int, gain: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Created outside of inference mode, because inference tensors cannot be used in training.
    with torch.inference_mode(False), torch.no_grad():
        return _make_kernel(channels, gain, dtype, device)


class _Filter(torch.autograd.Function):
    """Depthwise convolution with the filter, or its transpose.

    PyTorch's second derivative of a grouped convolution loops over the channels to compute a gradient of the weights,
    which makes R1 slow. A linear map and its transpose, each the derivative of the other, need no such gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, transposed: bool, gain: float, stride: int, padding: int) -> Tensor:
        ctx.settings = (not transposed, gain, stride, padding)
        convolve, channels = F.conv_transpose2d if transposed else F.conv2d, x.shape[1]
        make = _make_kernel if torch.compiler.is_compiling() else _kernel  # compiled code cannot use the cache
        kernel = make(channels, gain, x.dtype, x.device)
        return convolve(x, kernel, stride=stride, padding=padding, groups=channels)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        return _Filter.apply(grad, *ctx.settings), None, None, None, None


def smooth(x: Tensor, *, gain: float = 1.0, padding: int) -> Tensor:
    """Filters `[B, C, H, W]` with `padding` zeros on each side; returns `[B, C, H + 2 padding - 3, ...]`."""
    return _Filter.apply(x, False, gain, 1, padding)


def downsample(x: Tensor) -> Tensor:
    """Half-size `[B, C, H / 2, W / 2]`, H and W even: the filter, then every second pixel."""
    return _Filter.apply(x, False, 1.0, 2, 1)


def upsample(x: Tensor) -> Tensor:
    """Double-size `[B, C, 2 H, 2 W]`: zeros between the pixels, then the filter with gain 4."""
    return _Filter.apply(x, True, 4.0, 2, 1)

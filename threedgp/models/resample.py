"""Resampling with the [1, 3, 3, 1] filter, as in StyleGAN2 (Karras et al. 2020, section 2; Zhang 2019)."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.render.backends import engine, filter_backend


@functools.lru_cache(maxsize=64)
def _kernel(channels: int, gain: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Created outside of inference mode, because inference tensors cannot be used in training.
    with torch.inference_mode(False), torch.no_grad():
        taps = 4 - 2 * (torch.arange(4, dtype=dtype, device=device) - 1.5).abs()  # a list would be copied to the device
        return (torch.outer(taps, taps) * (gain / 64)).repeat(channels, 1, 1, 1)


def _composed(x: Tensor, transposed: bool, gain: float, stride: int, padding: int) -> Tensor:
    """The filter, or its transpose, along one dimension after the other, as sums of shifted tensors.

    Sums of 16-bit activations are in float32 and rounded once, as in a convolution.
    """
    dtype = x.dtype
    x = x.to(torch.promote_types(dtype, torch.float32))
    for dim in (2, 3):
        size = x.shape[dim]
        # The transpose meets zeros between the pixels, and is otherwise the same filter: it is symmetric.
        margin, step = (3 - padding, 1) if transposed else (padding, stride)
        if transposed and stride == 2:
            x = torch.stack([x, torch.zeros_like(x)], dim + 1).flatten(dim, dim + 1).narrow(dim, 0, 2 * size - 1)
        x = F.pad(x, (0, 0, margin, margin) if dim == 2 else (margin, margin))
        reach = x.shape[dim] - 3
        lines = [x.narrow(dim, place, reach) for place in range(4)]
        if step == 2:
            lines = [line[:, :, ::2] if dim == 2 else line[..., ::2] for line in lines]
        x = (lines[0] + lines[3] + 3 * (lines[1] + lines[2])) * (math.sqrt(gain) / 8)
    return x.to(dtype)


class _Filter(torch.autograd.Function):
    """Depthwise convolution with the filter, or its transpose.

    PyTorch's second derivative of a grouped convolution loops over the channels to compute a gradient of the weights,
    which makes R1 slow. A linear map and its transpose, each the derivative of the other, need no such gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, transposed: bool, gain: float, stride: int, padding: int) -> Tensor:
        ctx.settings = (not transposed, gain, stride, padding)
        if torch.compiler.is_compiling():  # fuses sums, with what is before and after; a convolution stands alone
            return _composed(x, transposed, gain, stride, padding)
        if x.is_cuda and filter_backend(x) == "triton":
            return engine("triton", "filter").resample(x, transposed, gain, stride, padding)
        convolve, channels = F.conv_transpose2d if transposed else F.conv2d, x.shape[1]
        # On a CPU, 16-bit transposed depthwise convolutions are ten times as slow as those in float32.
        dtype = x.dtype if x.is_cuda else torch.promote_types(x.dtype, torch.float32)
        kernel = _kernel(channels, gain, dtype, x.device)
        return convolve(x.to(dtype), kernel, stride=stride, padding=padding, groups=channels).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        return _Filter.apply(grad, *ctx.settings), None, None, None, None


def smooth(x: Tensor, *, gain: float = 1.0, padding: int) -> Tensor:
    """Filter x `[B, C, H, W]` with `padding` zeros on each side; returns `[B, C, H + 2 padding - 3, ...]`."""
    return _Filter.apply(x, False, gain, 1, padding)


def downsample(x: Tensor) -> Tensor:
    """Halve the size of x `[B, C, H, W]`, H and W even: the filter, then every second pixel."""
    return _Filter.apply(x, False, 1.0, 2, 1)


def upsample(x: Tensor) -> Tensor:
    """Double the size of x `[B, C, H, W]`: zeros between the pixels, then the filter with gain 4."""
    return _Filter.apply(x, True, 4.0, 2, 1)

"""Resampling with the [1, 3, 3, 1] filter; on a CPU compiled, where there is a compiler."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.render.native import building
from threedgp.render.native.building import compiled, may_take, pointer
from threedgp.render.native.threads import team

SOURCE = Path(__file__).with_suffix(".cpp")
LANES = 8
"""Channels come in multiples of this where the filter is compiled."""
_LINE = (1.0, 3.0, 3.0, 1.0)


class _Resampling(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "height", "width", "to_height", "to_width", "channels")),
        *((name, ctypes.c_int64) for name in ("step", "padding", "spread")),
        ("gain", ctypes.c_float),
    )


@functools.cache
def reason_against() -> str | None:
    """Why this machine has no compiled filter, or None if it has."""
    return building.reason_against(functools.partial(compiled, SOURCE))


def _takes(x: Tensor, padding: int) -> bool:
    # Results have pixels, and so have those of the transposed filter, whose padding is what 3 leaves.
    fits = 0 <= padding <= 3 and min(x.shape[2:]) + 2 * padding >= 4
    return fits and x.shape[1] % LANES == 0 and may_take(x, reason_against)


def _resample(x: Tensor, gain: float, stride: int, padding: int, *, spread: bool = False) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    batch, channels, height, width = x.shape
    sizes = [2 * n if spread else (n + 2 * padding - 4) // stride + 1 for n in (height, width)]
    like = dict(dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    y = torch.empty((batch, channels, *sizes), **like)
    settings = _Resampling(batch, height, width, *sizes, channels, stride, padding, spread, gain)
    compiled(SOURCE).resample(pointer(x), pointer(y), ctypes.byref(settings), ctypes.byref(team()))
    return y


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
        if _takes(x, padding):
            return _resample(x, gain, stride, padding)
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
        if _takes(x, 2):
            return _resample(x, gain, 1, 2, spread=True)
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

"""What stands between two convolutions of a modulated layer: factors for each sample's channels, bias, leaky ReLU.

On a CPU a compiled pass over memory where PyTorch's operators take three, and one for all gradients where they take
eight; elsewhere PyTorch's operators.
"""

from __future__ import annotations

import ctypes
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.render.native import building
from threedgp.render.native.building import compiled, may_take, pointer
from threedgp.render.native.threads import team

SOURCE = Path(__file__).with_name("modulation.cpp")
LANES = 16
"""Channels come in multiples of this where the pass is compiled."""
LEAKY_SLOPE = 0.2


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("scale", "offset", "after")),
        *((name, ctypes.c_int64) for name in ("scale_stride", "offset_stride", "after_stride")),
        *((name, ctypes.c_int64) for name in ("batch", "pixels", "channels")),
        ("slope", ctypes.c_float),
    )


class _Sums(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in ("scale", "offset", "after"))


@cache
def reason_against() -> str | None:
    """Why this machine has no compiled pass, or None if it has."""
    return building.reason_against(partial(compiled, SOURCE))


def modulate(x: Tensor, scale: Tensor) -> Tensor:
    """x `[B, C, H, W]` times scale `[B, C]`, in the dtype of x; differentiable any number of times."""
    if _takes(x, scale):
        return _Modulation.apply(_channels_last(x), _in_rows(scale), None, None, 1.0)
    return x * _pixels(scale).to(x.dtype)


def activate_modulated(x: Tensor, scale: Tensor | None, offset: Tensor, after: Tensor | None = None) -> Tensor:
    """`leaky_relu(x * scale + offset) * after`, in the dtype of x; differentiable any number of times.

    Args:
        x: `[B, C, H, W]`.
        scale: `[B, C]`, or None for 1.
        offset: `[C]`, `[B, C]`, or with pixels, `[B or 1, C or 1, H, W]`.
        after: `[B, C]`, or None for 1.
    """
    if _takes(x, scale, offset, after):
        factors = (None if factor is None else _in_rows(factor) for factor in (scale, offset, after))
        return _Modulation.apply(_channels_last(x), *factors, LEAKY_SLOPE)
    offset = (offset if offset.dim() == 4 else _pixels(offset)).to(x.dtype)
    x = x + offset if scale is None else torch.addcmul(offset, x, _pixels(scale).to(x.dtype))
    x = F.leaky_relu(x, LEAKY_SLOPE)
    return x if after is None else x * _pixels(after).to(x.dtype)


def _takes(x: Tensor, scale: Tensor | None, offset: Tensor | None = None, after: Tensor | None = None) -> bool:
    of_channels = x.shape[:2]
    shaped = all(f is None or f.shape == of_channels for f in (scale, after))
    shaped &= offset is None or offset.shape in (of_channels, of_channels[1:])
    return (
        shaped
        and x.shape[1] % LANES == 0
        and all(f is None or (f.dtype is x.dtype and f.device == x.device) for f in (scale, offset, after))
        and may_take(x, reason_against)
    )


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _in_rows(factor: Tensor) -> Tensor:
    """With the channels of an image one after the other. Not inside of the function below: what that saves has to be
    what it was given, or second derivatives would take it for a constant."""
    return factor if factor.stride(-1) == 1 else factor.contiguous()


def _pixels(factor: Tensor) -> Tensor:
    return factor[..., None, None]


class _Modulation(torch.autograd.Function):
    """`leaky_relu(x * scale + offset) * after` of channels-last float32; slope 1 is no activation."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor | None, offset: Tensor | None, after: Tensor | None, slope: float
    ) -> Tensor:
        ctx.save_for_backward(x, scale, offset, after)
        ctx.slope = slope
        y = torch.empty_like(x)
        layer = _layer(x, scale, offset, after, slope)
        compiled(SOURCE).modulation_forward(ctypes.byref(layer), pointer(x), pointer(y), ctypes.byref(team()))
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, offset, after = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody will differentiate again
            return *_gradients(x, scale, offset, after, ctx.slope, grad), None
        grad, to_x = _channels_last(grad), torch.empty_like(x)
        sums = [grad.new_empty(x.shape[:2]) if needed else None for needed in ctx.needs_input_grad[1:4]]
        layer, to = _layer(x, scale, offset, after, ctx.slope), _Sums(*(pointer(t) for t in sums))
        tensors = pointer(x), pointer(grad), pointer(to_x)
        compiled(SOURCE).modulation_backward(ctypes.byref(layer), *tensors, ctypes.byref(to), ctypes.byref(team()))
        if sums[1] is not None and offset.dim() == 1:
            sums[1] = sums[1].sum(dim=0)
        return to_x, *sums, None


def _layer(x: Tensor, scale: Tensor | None, offset: Tensor | None, after: Tensor | None, slope: float) -> _Layer:
    batch, channels, height, width = x.shape
    factors = scale, offset, after
    strides = (factor.stride(0) if factor is not None and factor.dim() == 2 else 0 for factor in factors)
    return _Layer(*map(pointer, factors), *strides, batch, height * width, channels, slope)


def _gradients(
    x: Tensor, scale: Tensor | None, offset: Tensor | None, after: Tensor | None, slope: float, grad: Tensor
) -> tuple[Tensor | None, ...]:
    """What `backward` computes, of operators that can be differentiated."""
    value = x if scale is None else x * _pixels(scale)
    if offset is not None:
        value = value + _pixels(offset)
    steepness = torch.where(value > 0, 1.0, slope)
    inner = grad * steepness if after is None else grad * _pixels(after) * steepness
    return (
        inner if scale is None else inner * _pixels(scale),
        None if scale is None else (inner * x).sum(dim=(2, 3)),
        None if offset is None else inner.sum(dim=(0, 2, 3) if offset.dim() == 1 else (2, 3)),
        None if after is None else (grad * steepness * value).sum(dim=(2, 3)),
    )

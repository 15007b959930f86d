"""3x3 convolutions on CPUs by Winograd's method, compiled: a quarter of the multiplications of the plain sum.

PyTorch's own (oneDNN 3) have no such path on CPUs, though cuDNN's on GPUs do. `winograd.cpp` is compiled on first use
where there is a C++ compiler; results do not depend on the number of threads. Rounding is that of the method: errors
stay within 2e-5 of the largest result where the plain sum's are 1e-6.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.render.native import building
from threedgp.render.native.building import NativeError, compiled, may_take, pointer, processor
from threedgp.render.native.threads import team

SOURCE = Path(__file__).with_name("winograd.cpp")
LANES = 16
"""Channels come in multiples of this."""
POINTS, PAD = 36, 16  # as in winograd.cpp
WEIGHTS_PER_TILE = 1024
"""Product of both numbers of channels, for each tile of 4x4 results, up to which this is faster: weights have to be
transformed, too. Measured with 16 to 512 channels (`benchmarks/convolutions.py`)."""


class _Size(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int64) for name in ("batch", "height", "width", "inputs", "outputs"))


@cache
def _library() -> ctypes.CDLL:
    if "avx512f" not in processor().split():
        raise NativeError("its blocks are made for processors with AVX-512")
    return compiled(SOURCE)


@cache
def reason_against() -> str | None:
    """Why this machine has no such convolutions, or None if it has."""
    return building.reason_against(_library)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.conv2d(x, weight, bias, padding=1)` of 3x3 weights, the fast way where that takes the arguments.

    Args:
        x: `[B, in, H, W]`.
        weight: `[out, in, 3, 3]`.
        bias: `[out]`.

    Returns:
        `[B, out, H, W]`, differentiable any number of times.
    """
    if _takes(x, weight):
        return _convolution(x, weight, bias, transposed=False)
    return F.conv2d(x, weight, bias, padding=1)


def _takes(x: Tensor, weight: Tensor) -> bool:
    out, channels = weight.shape[:2]
    batch, _, height, width = x.shape
    return (
        x.dtype is weight.dtype
        and channels % LANES == out % LANES == 0
        and 0 < out * channels <= WEIGHTS_PER_TILE * _tiles(batch, height, width)
        and may_take(x, reason_against)
    )


def _tiles(batch: int, height: int, width: int) -> int:
    return batch * -(-height // 4) * -(-width // 4)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _at_points(weight: Tensor, transposed: bool) -> Tensor:
    """Weights `[out, in, 3, 3]` as the products take them."""
    outputs, inputs = weight.shape[:2] if not transposed else weight.shape[1::-1]
    to = weight.new_empty(POINTS, inputs * outputs + PAD)
    sizes = ctypes.c_int64(inputs), ctypes.c_int64(outputs), ctypes.c_int32(transposed)
    _library().winograd_weights(pointer(weight), pointer(to), *sizes, ctypes.byref(team()))
    return to


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None, *, transposed: bool) -> Tensor:
    return _Convolution.apply(_channels_last(x), _channels_last(weight), bias, transposed)


def _weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    return _WeightGradient.apply(_channels_last(x), _channels_last(grad))


class _Convolution(torch.autograd.Function):
    """The convolution, or with `transposed` the gradient of its input: each is the other's derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, transposed: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.transposed = transposed
        batch, inputs, height, width = x.shape
        points, outputs = _at_points(weight, transposed), weight.shape[transposed]
        like = dict(dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        y = torch.empty((batch, outputs, height, width), **like)
        size = _Size(batch, height, width, inputs, outputs)
        bias = None if bias is None else bias.contiguous()
        tensors = pointer(x), pointer(points), pointer(bias), pointer(y)
        _library().winograd_convolve(*tensors, ctypes.byref(size), ctypes.byref(team()))
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        to_x = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            to_x = _convolution(grad, weight, None, transposed=not ctx.transposed)
        if ctx.needs_input_grad[1]:
            to_weight = _weight_gradient(grad, x) if ctx.transposed else _weight_gradient(x, grad)
        if ctx.needs_input_grad[2]:
            to_bias = grad.sum(dim=(0, 2, 3))
        return to_x, to_weight, to_bias, None


class _WeightGradient(torch.autograd.Function):
    """Gradient `[out, in, 3, 3]` of the weights, from inputs `[B, in, H, W]` and the results' gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grad: Tensor) -> Tensor:
        ctx.save_for_backward(x, grad)
        batch, inputs, height, width = x.shape
        outputs = grad.shape[1]
        sums = x.new_empty(POINTS, inputs * outputs + PAD)
        like = dict(dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        to = torch.empty((outputs, inputs, 3, 3), **like)
        size = _Size(batch, height, width, inputs, outputs)
        tensors = pointer(x), pointer(grad), pointer(sums)
        _library().winograd_weight_sums(*tensors, ctypes.byref(size), ctypes.byref(team()))
        sizes = ctypes.c_int64(inputs), ctypes.c_int64(outputs)
        _library().winograd_weight_gradient(pointer(sums), pointer(to), *sizes, ctypes.byref(team()))
        return to

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, gradient = ctx.saved_tensors
        to_x = _convolution(gradient, grad, None, transposed=True) if ctx.needs_input_grad[0] else None
        to_gradient = _convolution(x, grad, None, transposed=False) if ctx.needs_input_grad[1] else None
        return to_x, to_gradient

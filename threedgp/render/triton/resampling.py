"""The [1, 3, 3, 1] filter of the networks on GPUs: a depthwise convolution, or its transpose.

cuDNN's depthwise convolutions of channels-last tensors take some thirty times as long as reading and writing them.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from threedgp.render.triton.compiler import COMPILER_OPTIONS

BLOCK = 1024
"""Elements of the result that a program computes."""
MAX_CHANNELS = 64
"""Channels that a program computes, at most: 128 bytes of a pixel in 16 bits."""


@triton.jit
def _tap(position):
    """Weight of the filter at 0 to 3."""
    return tl.where((position == 1) | (position == 2), 3.0, 1.0)


@triton.jit
def filter_kernel(
    x, out, count, channels, height, width, out_height, out_width, padding, gain,
    STRIDE: tl.constexpr, TRANSPOSED: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Filters `PIXELS` pixels of `CHANNELS` channels of the result; `count` is the number of pixels of all images."""
    pixel = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    image, place = pixel // (out_height * out_width), (pixel % (out_height * out_width)).to(tl.int32)
    row, column = place // out_width, place % out_width
    inside = (pixel < count)[:, None] & (channel < channels)[None, :]
    dtype: tl.constexpr = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    total = tl.zeros([PIXELS, CHANNELS], dtype)
    # Only every STRIDE-th tap of the transposed filter meets a pixel; the others meet the zeros between pixels.
    TAPS: tl.constexpr = 4 // STRIDE if TRANSPOSED else 4
    for i in tl.static_range(TAPS):
        if TRANSPOSED:
            r = (row + padding) // STRIDE - i
            weight_r = _tap((row + padding) % STRIDE + STRIDE * i)
        else:
            r = row * STRIDE - padding + i
            weight_r = _tap(tl.full([PIXELS], i, tl.int32))
        for j in tl.static_range(TAPS):
            if TRANSPOSED:
                c = (column + padding) // STRIDE - j
                weight = weight_r * _tap((column + padding) % STRIDE + STRIDE * j)
            else:
                c = column * STRIDE - padding + j
                weight = weight_r * _tap(tl.full([PIXELS], j, tl.int32))
            meets = inside & ((r >= 0) & (r < height) & (c >= 0) & (c < width))[:, None]
            texel = ((image * height + r) * width + c) * channels
            value = tl.load(x + texel[:, None] + channel[None, :], mask=meets, other=0.0)
            total += weight[:, None] * value.to(dtype)
    offset = pixel[:, None] * channels + channel[None, :]
    tl.store(out + offset, (total * (gain / 64)).to(out.dtype.element_ty), mask=inside)


def resample(x: Tensor, transposed: bool, gain: float, stride: int, padding: int) -> Tensor:
    """Depthwise convolution of `[B, C, H, W]` with `gain` times the filter, or with `transposed` its transpose.

    The result has the size and dtype of those of `F.conv2d` and `F.conv_transpose2d`, and is channels last in memory.
    Sums are accumulated in float32, those of float64 in float64.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    batch, channels, *sizes = x.shape
    change = -4 + 2 * padding
    height, width = ((size - 1) * stride - change if transposed else (size + change) // stride + 1 for size in sizes)
    out = torch.empty(
        (batch, channels, height, width), dtype=x.dtype, device=x.device, memory_format=torch.channels_last
    )
    in_block = min(triton.next_power_of_2(channels), MAX_CHANNELS)
    pixels, count = BLOCK // in_block, batch * height * width
    grid = triton.cdiv(count, pixels), triton.cdiv(channels, in_block)
    with torch.cuda.device_of(x):
        filter_kernel[grid](
            x, out, count, channels, *sizes, height, width, padding, gain,
            STRIDE=stride, TRANSPOSED=transposed, PIXELS=pixels, CHANNELS=in_block, **COMPILER_OPTIONS,
        )  # fmt: skip
    return out

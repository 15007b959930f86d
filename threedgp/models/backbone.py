"""StyleGAN2 backbone with skip outputs (Karras et al. 2020, figures 2c and 7), which draws the tri-planes.

Modulated convolutions scale activations instead of weights: ``conv(x * s) * d`` is the same number as convolving with
modulated and demodulated weights, takes one shared convolution for the whole batch in place of one for each sample,
and keeps styles and demodulation in float32 where activations are bfloat16.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from threedgp.models.layers import GAINS, EqualizedLinear, side_by_side
from threedgp.models.modulation import activate_modulated, modulate
from threedgp.models.resample import smooth, upsample
from threedgp.models.winograd import convolve

_GAIN = GAINS["leaky_relu"]


class Factors(NamedTuple):
    """What w has to say to one layer."""

    style: Tensor
    """`[B, in]`, of the channels that come in."""
    scale: Tensor | None = None
    """`[B, out]`, of those that go out: demodulation and the activation's gain. None for outputs."""
    offset: Tensor | None = None
    """`[out]`, bias and gain; likewise."""


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution with demodulation, noise, bias and leaky ReLU; with `up`, doubles the size."""

    def __init__(
        self, in_channels: int, out_channels: int, w_dim: int, resolution: int, *, up: bool, noise: bool
    ) -> None:
        super().__init__()
        self.up = up
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        if noise:
            self.noise_strength = nn.Parameter(torch.zeros([]))
            self.register_buffer("noise_const", torch.randn(resolution, resolution))
        else:
            self.noise_strength = None

    def _convolve(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype)
        if not self.up:
            return convolve(x, weight)
        # Transposed convolution, then the filter; the published order, and the one with the fewest multiplications.
        return smooth(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), gain=4.0, padding=1)

    def forward(self, x: Tensor, factors: Factors, noise: Tensor | None, after: Tensor | None = None) -> Tensor:
        """One layer, but for the style.

        Args:
            x: `[B, in, H, W]`, times the style already.
            factors: of this layer.
            noise: `[B, 1, H', W']`; None = the stored constant.
            after: `[B, out]`, the style of the next layer, which the result is multiplied by; None = 1.
        """
        x = self._convolve(x)
        offset = factors.offset
        if self.noise_strength is not None:
            noise = self.noise_const[None, None] if noise is None else noise
            offset = offset[:, None, None] + noise * (self.noise_strength * _GAIN)
        return activate_modulated(x, factors.scale, offset, after)


class OutputLayer(nn.Module):
    """Modulated 1x1 convolution without demodulation."""

    def __init__(self, in_channels: int, out_channels: int, w_dim: int) -> None:
        super().__init__()
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.style_gain = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, factors: Factors) -> Tensor:
        """x `[B, in, H, W]` to `[B, out, H, W]`, in the dtype of the factors: these are summed over blocks."""
        weight = self.weight * self.style_gain
        x = F.conv2d(modulate(x, factors.style), weight.to(x.dtype), self.bias.to(x.dtype))
        return x.to(factors.style.dtype)


def factors_of(layers: Sequence[SynthesisLayer | OutputLayer], w: Tensor) -> list[Factors]:
    """What w `[B, w_dim]` has to say to each of `layers`, in few products."""
    styles = side_by_side([layer.affine for layer in layers], w)
    factors = [Factors(style) for style in styles.split([len(layer.affine.bias) for layer in layers], dim=1)]

    alike: dict[torch.Size, list[int]] = defaultdict(list)
    for number, layer in enumerate(layers):
        if isinstance(layer, SynthesisLayer):
            alike[layer.weight.shape].append(number)
    for numbers in alike.values():
        offsets = torch.stack([layers[number].bias for number in numbers]) * _GAIN
        weights = torch.stack([layers[number].weight.permute(0, 2, 3, 1).flatten(1, 2) for number in numbers])
        squares = torch.stack([factors[number].style for number in numbers]).square()  # [layers, B, in]
        sums = squares @ weights.square().sum(dim=2).transpose(1, 2)  # [layers, B, out]
        scales = torch.rsqrt(sums + 1e-8) * _GAIN
        for number, scale, offset in zip(numbers, scales, offsets, strict=True):
            factors[number] = Factors(factors[number].style, scale, offset)
    return factors


class SynthesisBlock(nn.Module):
    """One resolution: upsampling layer (but for the first), layer, and the output that is added to the skip."""

    def __init__(
        self, in_channels: int, out_channels: int, w_dim: int, resolution: int, image_channels: int, *, noise: bool
    ) -> None:
        super().__init__()
        self.first = in_channels == 0
        if self.first:
            self.const = nn.Parameter(torch.randn(out_channels, resolution, resolution))
        else:
            self.conv0 = SynthesisLayer(in_channels, out_channels, w_dim, resolution, up=True, noise=noise)
        self.conv1 = SynthesisLayer(out_channels, out_channels, w_dim, resolution, up=False, noise=noise)
        self.output = OutputLayer(out_channels, image_channels, w_dim)

    def layers(self) -> list[SynthesisLayer | OutputLayer]:
        """In the order in which they are used."""
        return [self.conv1, self.output] if self.first else [self.conv0, self.conv1, self.output]

    def forward(
        self, x: Tensor, image: Tensor | None, factors: Iterator[Factors], noise: Iterator[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """Activations and image of the resolution below to those of this one; takes what factors and noise are next."""
        own = next(factors)
        x = modulate(x, own.style)
        if not self.first:
            following = next(factors)
            x, own = self.conv0(x, own, next(noise), after=following.style), following
        x = self.conv1(x, own, next(noise))
        output = self.output(x, next(factors))
        return x, output if image is None else upsample(image) + output


class Backbone(nn.Module):
    """w to planes: one block a resolution from 4 up."""

    def __init__(
        self,
        w_dim: int,
        resolution: int,
        out_channels: int,
        *,
        channel_base: int,
        channel_max: int,
        noise: bool = True,
    ) -> None:
        super().__init__()
        self.resolutions = [2**power for power in range(2, int(math.log2(resolution)) + 1)]
        self.blocks = nn.ModuleList()
        before = 0
        for size in self.resolutions:
            channels = min(channel_base // size, channel_max)
            self.blocks.append(SynthesisBlock(before, channels, w_dim, size, out_channels, noise=noise))
            before = channels

    def noise_shapes(self) -> list[tuple[int, int]]:
        """Size of each noise input, in the order in which `forward` takes them."""
        return [(size, size) for size in self.resolutions for _ in range(1 if size == 4 else 2)]

    def factors(self, w: Tensor) -> list[Factors]:
        """For each layer, in the order in which they are used; w `[B, w_dim]`."""
        return factors_of([layer for block in self.blocks for layer in block.layers()], w)

    def forward(self, w: Tensor, noise: list[Tensor] | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """w `[B, w_dim]` to `[B, out_channels, H, W]`, channels last in memory.

        Args:
            noise: `[B, 1, H, W]` for each of `noise_shapes`; None = the stored constants.
            dtype: of the activations; None = that of w. The result has that of w in any case.
        """
        const = self.blocks[0].const.to(dtype or w.dtype)
        x = const.expand(len(w), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        image, factors, noises = None, iter(self.factors(w)), repeat(None) if noise is None else iter(noise)
        for block in self.blocks:
            x, image = block(x, image, factors, noises)
        return image

"""StyleGAN2 backbone with skip outputs (Karras et al. 2020, figures 2c and 7), which draws the tri-planes.

Modulated convolutions scale activations instead of weights: ``conv(x * s) * d`` is the same number as convolving with
modulated and demodulated weights, takes one shared convolution for the whole batch in place of one for each sample,
and keeps styles and demodulation in float32 where activations are bfloat16.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import repeat

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from threedgp.models.layers import GAINS, LEAKY_SLOPE, EqualizedLinear
from threedgp.models.resample import smooth, upsample
from threedgp.models.winograd import convolve

_GAIN = GAINS["leaky_relu"]


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

    def forward(self, x: Tensor, styles: Tensor, noise: Tensor | None) -> Tensor:
        """x `[B, in, H, W]`, styles `[B, in]`, noise `[B, 1, H', W']` (None = the stored constant); result like x."""
        demodulation = torch.rsqrt(styles.square() @ self.weight.square().sum(dim=(2, 3)).t() + 1e-8)
        x = self._convolve(x * styles[:, :, None, None].to(x.dtype))
        # The activation's gain goes into the small factors: three passes over the activations instead of six.
        offset = self.bias[:, None, None] * _GAIN
        if self.noise_strength is not None:
            noise = self.noise_const if noise is None else noise
            offset = offset + noise * (self.noise_strength * _GAIN)
        scale = demodulation[:, :, None, None] * _GAIN
        return F.leaky_relu(torch.addcmul(offset.to(x.dtype), x, scale.to(x.dtype)), LEAKY_SLOPE)


class OutputLayer(nn.Module):
    """Modulated 1x1 convolution without demodulation."""

    def __init__(self, in_channels: int, out_channels: int, w_dim: int) -> None:
        super().__init__()
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.style_gain = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, styles: Tensor) -> Tensor:
        """x `[B, in, H, W]`, styles `[B, in]` to `[B, out, H, W]`, in their dtype: these are summed over blocks."""
        weight = self.weight * self.style_gain
        x = F.conv2d(x * styles[:, :, None, None].to(x.dtype), weight.to(x.dtype), self.bias.to(x.dtype))
        return x.to(styles.dtype)


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
        self, x: Tensor, image: Tensor | None, styles: Iterator[Tensor], noise: Iterator[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """Activations and image of the resolution below to those of this one; takes what styles and noise are next."""
        if not self.first:
            x = self.conv0(x, next(styles), next(noise))
        x = self.conv1(x, next(styles), next(noise))
        output = self.output(x, next(styles))
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

    def styles(self, w: Tensor) -> Sequence[Tensor]:
        """w `[B, w_dim]` to the styles `[B, in]` of each layer, in the order in which they are used."""
        # One product for all layers: a product of its own for each would be short of work on any device.
        affines = [layer.affine for block in self.blocks for layer in block.layers()]
        weight, bias = (torch.cat([getattr(affine, name) for affine in affines]) for name in ("weight", "bias"))
        styles = torch.addmm(bias, w, weight.t(), alpha=affines[0].weight_gain)
        return styles.split([len(affine.bias) for affine in affines], dim=1)

    def forward(self, w: Tensor, noise: list[Tensor] | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """w `[B, w_dim]` to `[B, out_channels, H, W]`, channels last in memory.

        Args:
            noise: `[B, 1, H, W]` for each of `noise_shapes`; None = the stored constants.
            dtype: of the activations; None = that of w. The result has that of w in any case.
        """
        const = self.blocks[0].const.to(dtype or w.dtype)
        x = const.expand(len(w), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        image, styles, noises = None, iter(self.styles(w)), repeat(None) if noise is None else iter(noise)
        for block in self.blocks:
            x, image = block(x, image, styles, noises)
        return image

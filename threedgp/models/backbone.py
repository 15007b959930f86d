"""StyleGAN2 backbone with skip outputs (Karras et al. 2020, figures 2c and 7), which draws the tri-planes.

Modulated convolutions scale activations instead of weights: ``conv(x * s) * d`` is the same number as convolving with
modulated and demodulated weights, takes one shared convolution for the whole batch in place of one for each sample,
and keeps styles and demodulation in float32 where activations are bfloat16.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from threedgp.models.layers import GAINS, LEAKY_SLOPE, EqualizedLinear
from threedgp.models.resample import smooth, upsample

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
            return F.conv2d(x, weight, padding=1)
        # Transposed convolution, then the filter; the published order, and the one with the fewest multiplications.
        return smooth(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), gain=4.0, padding=1)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """x `[B, in, H, W]`, w `[B, w_dim]`, noise `[B, 1, H', W']` (None = the stored constant); result like x."""
        styles = self.affine(w)
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

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x `[B, in, H, W]`, w `[B, w_dim]` to `[B, out, H, W]`, in the dtype of w: these are summed over blocks."""
        styles = self.affine(w) * self.style_gain
        x = F.conv2d(x * styles[:, :, None, None].to(x.dtype), self.weight.to(x.dtype), self.bias.to(x.dtype))
        return x.to(w.dtype)


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

    def forward(
        self, x: Tensor | None, image: Tensor | None, w: Tensor, noise: list[Tensor] | None, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Activations and image of the resolution below to those of this one; takes its noise off the list's front."""
        if self.first:
            x = self.const.to(dtype).expand(w.shape[0], -1, -1, -1).contiguous(memory_format=torch.channels_last)
        else:
            x = self.conv0(x, w, noise.pop(0) if noise is not None else None)
        x = self.conv1(x, w, noise.pop(0) if noise is not None else None)
        output = self.output(x, w)
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

    def forward(self, w: Tensor, noise: list[Tensor] | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """w `[B, w_dim]` to `[B, out_channels, H, W]`, channels last in memory.

        Args:
            noise: `[B, 1, H, W]` for each of `noise_shapes`; None = the stored constants.
            dtype: of the activations; None = that of w. The result has that of w in any case.
        """
        noise = None if noise is None else list(noise)
        x = image = None
        for block in self.blocks:
            x, image = block(x, image, w, noise, dtype or w.dtype)
        return image

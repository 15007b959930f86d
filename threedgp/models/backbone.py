"""StyleGAN2 synthesis network with skip outputs (Karras et al. 2020, figures 2d and 7b): tri-planes, or an image.

Modulated convolutions scale activations instead of weights: `conv(x * style) * demodulation` equals the convolution
with modulated and demodulated weights (Karras et al. 2020, section 2.2), and all samples share one convolution. Styles
and demodulation are computed in float32 even where activations are bfloat16.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from threedgp.config import GeneratorConfig
from threedgp.models.layers import GAINS, EqualizedLinear, activate, own_seed, scale_channels
from threedgp.models.resample import smooth, upsample
from threedgp.runtime.counter_rng import NumberStream


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

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """Map x `[B, in, H, W]`, w `[B, w_dim]` and noise `[B, 1, H', W']` (None = the stored constant) to
        `[B, out, H', W']`."""
        style = self.affine(w)
        demodulation = torch.rsqrt(style.square() @ self.weight.square().sum(dim=(2, 3)).t() + 1e-8)

        x = scale_channels(x, style)
        weight = self.weight.to(x.dtype)
        if self.up:
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
            x = smooth(x, gain=4.0, padding=1)
        else:
            x = F.conv2d(x, weight, padding=1)
        # Leaky ReLU commutes with its gain, which is cheapest to apply to bias and demodulation.
        gain = GAINS["leaky_relu"]
        bias, scale = (self.bias * gain)[:, None, None], (demodulation * gain)[:, :, None, None]
        x = torch.addcmul(bias.to(x.dtype), x, scale.to(x.dtype))
        if self.noise_strength is not None:
            noise = self.noise_const if noise is None else noise
            x = x + (noise * (self.noise_strength * gain)).to(x.dtype)
        return activate(x, "leaky_relu")


class OutputLayer(nn.Module):
    """Modulated 1x1 convolution without demodulation."""

    def __init__(self, in_channels: int, out_channels: int, w_dim: int) -> None:
        super().__init__()
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.style_gain = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map x `[B, in, H, W]` and w `[B, w_dim]` to `[B, out, H, W]`, in the dtype of w, for the sum over blocks."""
        x = scale_channels(x, self.affine(w) * self.style_gain)
        x = F.conv2d(x, self.weight.to(x.dtype), self.bias.to(x.dtype))
        return x.to(w.dtype)


class SynthesisBlock(nn.Module):
    """One resolution: an upsampling layer (not in the first block, whose `in_channels` is 0), a layer, and the output
    added to the skip."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        image_channels: int,
        *,
        noise: bool,
        background_channels: int = 0,
    ) -> None:
        super().__init__()
        self.first = in_channels == 0
        if self.first:
            self.const = nn.Parameter(torch.randn(out_channels, resolution, resolution))
        else:
            self.conv0 = SynthesisLayer(in_channels, out_channels, w_dim, resolution, up=True, noise=noise)
        self.conv1 = SynthesisLayer(out_channels, out_channels, w_dim, resolution, up=False, noise=noise)
        self.output = OutputLayer(out_channels, image_channels, w_dim)
        self.background_output = None
        if background_channels:
            with own_seed(f"background {resolution}"):
                self.background_output = OutputLayer(out_channels, background_channels, w_dim)

    def forward(
        self, x: Tensor, image: Tensor | None, w: Tensor, noise0: Tensor | None, noise1: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Map activations and image of the resolution below to those of this one.

        Args:
            x: `[B, in, H / 2, W / 2]`; in the first block the constant input `[B, out, 4, 4]`.
            image: `[B, image_channels, H / 2, W / 2]`, None in the first block.
            w: `[B, w_dim]`.
            noise0, noise1: `[B, 1, H, W]` for each layer; None = the stored constants.
        """
        if not self.first:
            x = self.conv0(x, w, noise0)
        x = self.conv1(x, w, noise1)
        output = self.output(x, w)
        if self.background_output is not None:
            output = torch.cat([output, self.background_output(x, w)], dim=1)
        return x, output if image is None else upsample(image) + output


class Backbone(nn.Module):
    """Maps w to an image of `out_channels`: one block per resolution, from 4x4 to `plane_resolution`."""

    def __init__(
        self, config: GeneratorConfig, out_channels: int, *, background_channels: int = 0, recompute: bool = False
    ) -> None:
        """`background_channels` are additional channels of the image, from layers of their own. With `recompute`, the
        backward pass computes the activations inside of each block again, which saves memory."""
        super().__init__()
        self.noise, self.recompute = config.noise, recompute
        self.resolutions = [2**power for power in range(2, int(math.log2(config.plane_resolution)) + 1)]
        widths = [0] + [min(config.channel_base // size, config.channel_max) for size in self.resolutions]
        options = dict(noise=config.noise, background_channels=background_channels)
        self.blocks = nn.ModuleList(
            SynthesisBlock(before, after, config.w_dim, size, out_channels, **options)
            for size, (before, after) in zip(self.resolutions, pairwise(widths), strict=True)
        )

    def noise_shapes(self) -> list[tuple[int, int]]:
        """Size of each noise input, in the order in which `forward` takes them."""
        return [(size, size) for size in self.resolutions for _ in range(1 if size == 4 else 2)]

    def draw_noise(self, random: NumberStream) -> list[Tensor] | None:
        """Noise inputs for training; None without them."""
        if not self.noise:
            return None
        shapes = self.noise_shapes()
        sizes = [height * width for height, width in shapes]
        # One draw for all layers, because each takes a GPU about forty kernels.
        noises = random.normal("noise", sum(sizes)).split(sizes, dim=1)
        return [noise.unflatten(1, (1, *shape)) for noise, shape in zip(noises, shapes, strict=True)]

    def forward(self, w: Tensor, noise: list[Tensor] | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """Map w `[B, w_dim]` to `[B, out_channels + background_channels, H, W]`, channels last in memory.

        Args:
            noise: `[B, 1, H, W]` for each of `noise_shapes`; None = the stored constants.
            dtype: dtype of the activations; None = that of w. The result always has the dtype of w.
        """
        # The first block has no conv0.
        noise = [None] * (2 * len(self.blocks)) if noise is None else [None, *noise]
        x = self.blocks[0].const.to(dtype or w.dtype)
        x = x.expand(len(w), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        image = None
        for block, noise0, noise1 in zip(self.blocks, noise[0::2], noise[1::2], strict=True):
            inputs = (x, image, w, noise0, noise1)
            if self.recompute and torch.is_grad_enabled():
                # Noise is an input, so there is no random state to restore.
                x, image = checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
            else:
                x, image = block(*inputs)
        return image

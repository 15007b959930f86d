"""VolumeGAN (Xu et al. 2022): a feature volume from a 3D convolutional generator, whose features are rendered.

Style-modulated 3D convolutions turn a learned template into a feature volume. A point of space gets the features of the
volume at its place, beside its coordinates; layers modulated by the style make features and a density of them. Features
are rendered at a low resolution and enlarged by 2D convolutions.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from threedgp.config import CameraConfig, GeneratorConfig, ModelConfig
from threedgp.models.feature_rendering import FeatureGenerator, StyledContent
from threedgp.models.layers import GAINS, EqualizedLinear, activate
from threedgp.models.pointwise import ModulatedLinear
from threedgp.render.features import Field


class VolumeLayer(nn.Module):
    """Modulated 3x3x3 convolution with demodulation, bias and leaky ReLU; with `up`, doubles the size first."""

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, *, up: bool) -> None:
        super().__init__()
        self.up = up
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1.0)
        # Not of five dimensions: networks are moved to the memory format `channels_last`, which has four.
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 27))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map x `[B, in, D, H, W]` and w `[B, w_dim]` to `[B, out, D', H', W']`."""
        style = self.affine(w)
        demodulation = torch.rsqrt(style.square() @ self.weight.square().sum(dim=2).t() + 1e-8)
        x = x * style[:, :, None, None, None].to(x.dtype)
        if self.up:
            x = F.interpolate(x, scale_factor=2, mode="trilinear")
        weight = self.weight.to(x.dtype).unflatten(2, (3, 3, 3))
        x = F.conv3d(x, weight, padding=1) * demodulation[:, :, None, None, None].to(x.dtype)
        x = x + self.bias[:, None, None, None].to(x.dtype)
        return activate(x, "leaky_relu") * GAINS["leaky_relu"]


class VolumeBackbone(nn.Module):
    """Maps w to a feature volume: two layers for each resolution, from a learned template of 4x4x4 up."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        resolutions = [2**power for power in range(2, config.plane_resolution.bit_length())]
        widths = [min(config.channel_base // size, config.channel_max) for size in resolutions]
        self.template = nn.Parameter(torch.randn(widths[0], 4, 4, 4))
        layers = [VolumeLayer(widths[0], widths[0], config.w_dim, up=False)]
        for before, after in pairwise(widths):
            layers.append(VolumeLayer(before, after, config.w_dim, up=True))
            layers.append(VolumeLayer(after, after, config.w_dim, up=False))
        self.layers = nn.ModuleList(layers)
        self.output = EqualizedLinear(widths[-1], config.plane_channels)

    def forward(self, w: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Map w `[B, w_dim]` to `[B, C, D, H, W]` in the dtype of w; `dtype` is that of the activations."""
        x = self.template.to(dtype or w.dtype).expand(len(w), -1, -1, -1, -1)
        for layer in self.layers:
            x = layer(x, w)
        weight, bias = self.output.effective()
        return F.conv3d(x.to(w.dtype), weight[:, :, None, None, None], bias)


class VolumeGenerator(FeatureGenerator):
    """Maps latent vectors and classes to feature volumes, renders features of them, and enlarges these."""

    content_name = "volume"

    def __init__(self, camera: CameraConfig, model: ModelConfig, num_classes: int) -> None:
        super().__init__(camera, model, num_classes)
        settings = model.generator
        self.backbone = VolumeBackbone(settings)
        widths = [settings.plane_channels + 3, settings.decoder_hidden, settings.decoder_hidden]
        self.decoder = nn.ModuleList(
            ModulatedLinear(before, after, settings.w_dim) for before, after in pairwise(widths)
        )
        self.output = EqualizedLinear(settings.decoder_hidden, settings.feature_channels + 1)

    def make_content(
        self, w: Tensor, noise: list[Tensor] | None = None, dtype: torch.dtype | None = None
    ) -> StyledContent:
        """Map w `[B, w_dim]` to volumes `[B, C, D, H, W]`, whose axes are z, y and x."""
        return StyledContent(self.backbone(w, dtype), w)

    @property
    def content_shape(self) -> tuple[int, ...]:
        sizes = self.model_config.generator
        return sizes.plane_channels, *[sizes.plane_resolution] * 3

    def field(self, content: StyledContent) -> Field:
        def field(points: Tensor) -> Tensor:
            x = points / self.ray_settings.half_width  # [B, N, 3], in [-1, 1] inside the volume
            grid = x.clamp(-4, 4)[:, :, None, None]
            features = F.grid_sample(content.values, grid, padding_mode="zeros", align_corners=True)  # [B, C, N, 1, 1]
            x = torch.cat([features[..., 0, 0].mT, x], dim=-1)
            for layer in self.decoder:
                x = layer(x, content.w)
            return self.output(x)

        return field

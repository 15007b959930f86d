"""Generators that render features of a scene at a low resolution and make an image of them by 2D convolutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from threedgp.camera.geometry import Patches, rays
from threedgp.config import CameraConfig, GeneratorConfig, ModelConfig
from threedgp.models.backbone import SynthesisBlock
from threedgp.models.generator import (
    DETERMINISTIC,
    Fakes,
    Generator,
    Rendering,
    RenderOptions,
    Scenes,
    Schedule,
)
from threedgp.models.rays import as_image, draw_ray_randomness, evaluation_randomness, ray_settings
from threedgp.render import RayRandomness, RaySettings
from threedgp.render.compositing import bounded_color
from threedgp.render.features import Field, render_field
from threedgp.runtime.counter_rng import NumberStream

RAY_CHUNK = 1 << 14
"""Number of rays, over all images, that inference renders at once; limits its memory. The kernels of tri-planes, which
do not store the features of samples, take more."""


class StyledContent(NamedTuple):
    """Content of B scenes and the style that it was made from."""

    values: Tensor | None
    """Tri-planes `[B, 3, H, W, C]` or a volume `[B, C, D, H, W]`, which the field interpolates; None if it has none."""
    w: Tensor
    """`[B, w_dim]`, which modulates the 2D layers, and in some kinds the field."""


class Upsampling(nn.Module):
    """Maps rendered features to images by StyleGAN2 blocks that each double the size."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SynthesisBlock(before, after, config.w_dim, resolution=0, image_channels=3, noise=False)  # of any size
            for before, after in pairwise(upsampling_widths(config))
        )

    def forward(self, features: Tensor, w: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Map features `[B, C, N, N]`, whose first three are a color, to images `[B, 3, P, P]` in the dtype of w."""
        x, image = features.to(dtype or w.dtype).contiguous(memory_format=torch.channels_last), features[:, :3]
        for block in self.blocks:
            x, image = block(x, image, w, None, None)
        return image


def upsampling_widths(config: GeneratorConfig) -> list[int]:
    """Channels of the rendered features, and those behind each block that doubles the size."""
    count = config.upsampling.bit_length() - 1
    return [config.feature_channels, *(max(config.upsampling_channels >> index, 1) for index in range(count))]


def ray_chunk(batch: int) -> int | None:
    """Rays of each of `batch` images that are rendered at once; None = all, in training."""
    return None if torch.is_grad_enabled() else max(RAY_CHUNK // batch, 1)


class FeatureGenerator(Generator):
    """Base class of generators that render features. A kind defines `make_content` and `field`."""

    schedules = ("density_noise",)
    ray_options: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Settings of rays in which the kind differs from 3DGP."""
    upsampling_type: ClassVar[Callable[[GeneratorConfig], nn.Module]] = Upsampling

    def __init__(self, camera: CameraConfig, model: ModelConfig, num_classes: int) -> None:
        super().__init__(camera, model, num_classes)
        settings = model.generator
        self.upsampling = self.upsampling_type(settings)
        self.ray_settings = ray_settings(camera, settings)._replace(**self.ray_options)

    def field(self, content: StyledContent) -> Field:
        """Raw features and raw density of the scenes at points."""
        raise NotImplementedError

    def density(self, content: StyledContent, points: Tensor) -> Tensor:
        """Density `[B, N]` at points `[B, N, 3]` in scene units."""
        return F.softplus(self.field(content)(points)[..., -1] + self.ray_settings.density_bias)

    def color(self, content: StyledContent, points: Tensor) -> Tensor:
        """Color `[B, N, 3]` of the rendered features, about [-1, 1], at points `[B, N, 3]`."""
        color = self.field(content)(points)[..., :3]
        return bounded_color(color) * 2 - 1 if self.ray_settings.sigmoid_color else color

    def render_features(
        self,
        content: StyledContent,
        origins: Tensor,
        directions: Tensor,
        randomness: RayRandomness,
        settings: RaySettings,
    ) -> tuple[Tensor, Tensor]:
        """Features `[B, R, C]` and depth `[B, R]` of rays `[B, R, 3]`."""
        rendered = render_field(
            self.field(content), origins, directions, randomness, settings, chunk=ray_chunk(len(origins))
        )
        return rendered.rgb, rendered.depth

    def render(
        self, content: StyledContent, cameras: Tensor, resolution: int, options: RenderOptions = DETERMINISTIC
    ) -> Rendering:
        """As in `Generator.render`; depth is enlarged from that of the rendered features."""
        settings = self.model_config.generator
        size = -(-resolution // settings.upsampling)
        origins, directions = rays(cameras, size)
        numbers = evaluation_randomness(options, settings, origins)
        cut = self.ray_settings._replace(cut_quantile=options.cut_quantile, cut_batch=options.cut_batch)
        features, depth = self.render_features(content, origins, directions, numbers, cut)
        images = self.upsampling(as_image(features), content.w)
        if images.shape[-1] != resolution:
            images = F.interpolate(images, (resolution, resolution), mode="bilinear", antialias=True)
        depth = F.interpolate(as_image(depth[..., None]), (resolution, resolution), mode="bilinear")
        return Rendering(images, depth)

    def fakes(
        self,
        scenes: Scenes,
        patches: Patches,
        random: NumberStream,
        schedule: Schedule,
        dtype: torch.dtype | None = None,
    ) -> Fakes:
        """As in `Generator.fakes`; the images are whole."""
        settings = self.model_config.generator
        w = self.training_styles(scenes, random, schedule)
        content = self.make_content(w, self.draw_noise(random), dtype)
        size = self.model_config.discriminator.patch_resolution // settings.upsampling
        randomness = draw_ray_randomness(random, settings, size**2, schedule("density_noise"))
        features, _ = self.render_features(content, *rays(scenes.prior_cameras, size), randomness, self.ray_settings)
        features = as_image(features)
        images = self.upsampling(features, w, dtype)
        penalties = self.penalties(content, images, scenes, random, schedule) if torch.is_grad_enabled() else {}
        return Fakes(self.discriminator_input(images, features), w, penalties)

    def training_styles(self, scenes: Scenes, random: NumberStream, schedule: Schedule) -> Tensor:
        """w `[B, w_dim]` of scenes in training."""
        return self.map(scenes.z, scenes.labels, cameras=scenes.prior_cameras)

    def draw_noise(self, random: NumberStream) -> list[Tensor] | None:
        """Noise inputs of `make_content` in training; None without them."""
        return None

    def discriminator_input(self, images: Tensor, features: Tensor) -> Tensor:
        """Input of the discriminator, given images `[B, 3, P, P]` and their rendered features `[B, C, N, N]`."""
        return images

    def penalties(
        self, content: StyledContent, images: Tensor, scenes: Scenes, random: NumberStream, schedule: Schedule
    ) -> dict[str, Tensor]:
        """Weighted terms of the generator's loss besides the adversarial one, by name."""
        return {}

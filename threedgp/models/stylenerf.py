"""StyleNeRF (Gu et al. 2022): a field of style-modulated layers, rendered at a low resolution and enlarged in 2D.

The foreground is a field of points, the background another one of points on the inverted sphere (Zhang et al. 2020,
NeRF++). Features of both are rendered together. The layers behind have no 3x3 convolutions, so that features do not
stick to the image: pixel shuffling and a fixed blur double the size (section 3.3), and modulated 1x1 convolutions do
the rest.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from threedgp.camera.geometry import rays
from threedgp.config import CameraConfig, GeneratorConfig, ModelConfig
from threedgp.models.backbone import OutputLayer
from threedgp.models.background import add_background
from threedgp.models.feature_rendering import FeatureGenerator, StyledContent, ray_chunk, upsampling_widths
from threedgp.models.generator import DETERMINISTIC, Scenes, Schedule
from threedgp.models.layers import EqualizedConv, EqualizedLinear
from threedgp.models.pointwise import ModulatedLinear
from threedgp.models.rays import evaluation_randomness
from threedgp.render import RayRandomness, RaySettings
from threedgp.render.features import Field, composite_features, render_field
from threedgp.render.sampling import stratified_inverse_distances
from threedgp.runtime.counter_rng import NumberStream

OCTAVES, BACKGROUND_OCTAVES = 10, 4
"""Frequencies of the positional encoding of points in the foreground and in the background."""
PATH_PIXELS = 64
"""Pixels of an image that the NeRF-path regularization compares."""


def positional_encoding(x: Tensor, octaves: int) -> Tensor:
    """Coordinates `[..., D]` and their sines and cosines of `octaves` frequencies (Mildenhall et al. 2020, equation 4):
    `[..., D (1 + 2 octaves)]`."""
    angles = x[..., None] * (math.pi * 2.0 ** torch.arange(octaves, dtype=x.dtype, device=x.device))
    return torch.cat([x, angles.sin().flatten(-2), angles.cos().flatten(-2)], dim=-1)


class ModulatedField(nn.Module):
    """Maps encoded points to features and raw density by modulated layers."""

    def __init__(self, in_features: int, layers: int, config: GeneratorConfig) -> None:
        super().__init__()
        widths = [in_features] + [config.decoder_hidden] * layers
        self.layers = nn.ModuleList(ModulatedLinear(before, after, config.w_dim) for before, after in pairwise(widths))
        self.output = EqualizedLinear(config.decoder_hidden, config.feature_channels + 1)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map encoded points `[B, N, in]` and w `[B, w_dim]` to `[B, N, features + 1]`."""
        for layer in self.layers:
            x = layer(x, w)
        return self.output(x)


class ShuffleBlock(nn.Module):
    """Doubles the size: nearest pixels and a learned difference, blurred (section 3.3); then a modulated layer."""

    def __init__(self, in_channels: int, out_channels: int, w_dim: int) -> None:
        super().__init__()
        self.difference = nn.Sequential(
            EqualizedConv(in_channels, in_channels, 1, activation="leaky_relu"),
            EqualizedConv(in_channels, 4 * in_channels, 1),
        )
        self.layer = ModulatedLinear(in_channels, out_channels, w_dim)
        self.output = OutputLayer(out_channels, 3, w_dim)

    def forward(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Map x `[B, in, N, N]` and w `[B, w_dim]` to features `[B, out, 2 N, 2 N]` and a term of the image
        `[B, 3, 2 N, 2 N]`."""
        x = F.pixel_shuffle(x.repeat_interleave(4, dim=1) + self.difference(x), 2)
        # The kernel [1, 2, 1] along both axes.
        x = F.avg_pool2d(F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 2, stride=1), 2, stride=1)
        x = self.layer(x.flatten(2).mT, w).mT.unflatten(2, x.shape[2:])
        return x, self.output(x, w)


class ShuffleUpsampling(nn.Module):
    """Maps rendered features to images by blocks that each double the size; training adds one after the other."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ShuffleBlock(before, after, config.w_dim) for before, after in pairwise(upsampling_widths(config))
        )
        self.register_buffer("grown", torch.ones([]))
        """Part of the blocks that is in use, from 0 to 1."""

    def forward(self, features: Tensor, w: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Map features `[B, C, N, N]`, whose first three are a color, to images `[B, 3, P, P]`. The layers are small,
        and computed in the dtype of w whatever `dtype` is."""
        x, image = features, features[:, :3]
        for index, block in enumerate(self.blocks):
            x, term = block(x, w)
            share = (self.grown * len(self.blocks) - index).clamp(0, 1)
            image = F.interpolate(image, scale_factor=2, mode="bilinear") + share * term
        return image


class StyleNeRFGenerator(FeatureGenerator):
    """Maps latent vectors and classes to styles, which modulate the field of a scene and the layers behind it."""

    schedules = ("density_noise", "growing")
    content_name = "style"
    # The background is seen behind the last sample.
    ray_options = MappingProxyType(dict(infinite_last_interval=False, last_back=False))
    upsampling_type = ShuffleUpsampling

    def __init__(self, camera: CameraConfig, model: ModelConfig, num_classes: int) -> None:
        super().__init__(camera, model, num_classes)
        settings = model.generator
        self.foreground = ModulatedField(3 * (1 + 2 * OCTAVES), settings.field_layers, settings)
        background_layers = max(settings.field_layers // 2, 1)
        self.background = ModulatedField(4 * (1 + 2 * BACKGROUND_OCTAVES), background_layers, settings)

    def make_content(
        self, w: Tensor, noise: list[Tensor] | None = None, dtype: torch.dtype | None = None
    ) -> StyledContent:
        """The style itself, w `[B, w_dim]`."""
        return StyledContent(None, w)

    @property
    def content_shape(self) -> tuple[int, ...]:
        return (self.model_config.generator.w_dim,)

    def field(self, content: StyledContent) -> Field:
        """The foreground."""
        half_width = self.ray_settings.half_width
        return lambda points: self.foreground(positional_encoding(points / half_width, OCTAVES), content.w)

    def render_features(
        self,
        content: StyledContent,
        origins: Tensor,
        directions: Tensor,
        randomness: RayRandomness,
        settings: RaySettings,
    ) -> tuple[Tensor, Tensor]:
        """Features of the foreground, and behind it those of the background, whose depth counts as that of the end of
        the ray."""
        chunk = ray_chunk(len(origins))
        front = render_field(self.field(content), origins, directions, randomness, settings, chunk=chunk)
        inputs = origins, directions, randomness.coarse
        return add_background(front, partial(self._background, content), inputs, settings.far, chunk)

    def _background(self, content: StyledContent, origins: Tensor, directions: Tensor, u: Tensor) -> Tensor:
        """Features `[B, R, C]` of the background of rays, with uniform numbers `u` `[B, R, S]`.

        Samples divide the inverse of the distance behind the end of the ray evenly, up to infinity. A point enters as
        its direction from the origin and the inverse of its distance.
        """
        inverse = stratified_inverse_distances(u)
        points = origins[:, :, None] + directions[:, :, None] * (self.ray_settings.far / inverse)[..., None]
        radius = points.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        inverted = torch.cat([points / radius, (self.ray_settings.half_width / radius).clamp(max=1)], dim=-1)
        samples = self.background(positional_encoding(inverted.flatten(1, 2), BACKGROUND_OCTAVES), content.w)
        return composite_features(samples.unflatten(1, u.shape[1:]), 1 - inverse)

    def training_styles(self, scenes: Scenes, random: NumberStream, schedule: Schedule) -> Tensor:
        """w of scenes; the blocks in use follow the schedule."""
        self.upsampling.grown.fill_(schedule("growing"))
        return super().training_styles(scenes, random, schedule)

    def penalties(
        self, content: StyledContent, images: Tensor, scenes: Scenes, random: NumberStream, schedule: Schedule
    ) -> dict[str, Tensor]:
        """NeRF-path regularization (section 3.3): some pixels of the image against the color of the field along their
        own rays."""
        weight = schedule("nerf_path_regularization")
        if not weight:
            return {}
        settings, count = self.model_config.generator, images.shape[-1] ** 2
        pixels = (random.uniform("path pixels", PATH_PIXELS) * count).long().clamp(max=count - 1)[..., None]
        chosen = [x.gather(1, pixels.expand(-1, -1, 3)) for x in rays(scenes.prior_cameras, images.shape[-1])]
        numbers = evaluation_randomness(DETERMINISTIC, settings, chosen[0])
        colors = self.render_features(content, *chosen, numbers, self.ray_settings)[0][..., :3]
        seen = images.flatten(2).mT.gather(1, pixels.expand(-1, -1, 3))
        return {"nerf_path_regularization": weight * (seen - colors).square().mean()}

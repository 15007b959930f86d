"""EG3D (Chan et al. 2022): features of tri-planes are rendered at a low resolution and enlarged by 2D convolutions.

Two things differ from the paper. Cameras of the real images are not known here, so the discriminator does not see them.
And the planes are xy, xz and yz; those of the published models are xy, xz and zx, where the third repeats the second.
`model.generator.published_planes` gives these.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from threedgp.camera.geometry import FOV, cam2world, rays
from threedgp.camera.priors import PRIOR_DRAWS, frontal_cameras, prior_cameras
from threedgp.config import CameraConfig, GeneratorConfig, ModelConfig
from threedgp.models.backbone import Backbone, SynthesisBlock
from threedgp.models.discriminator import beside_rendering
from threedgp.models.generator import Fakes, Generator, RandomNumbers, Rendering, Scenes, Schedule
from threedgp.models.layers import EqualizedLinear
from threedgp.models.rays import draw_ray_randomness
from threedgp.render import RayRandomness, RaySettings, midpoint_randomness
from threedgp.render.features import Field, render_field
from threedgp.render.field import PLANE_AXES, REPEATED_PLANE_AXES, plane_features

DENSITY_BIAS = -1.0
"""Added to raw density: scenes begin nearly transparent."""
POSE_WIDTH = 13
"""Numbers of a pose: 12 of the camera-to-world matrix, and the focal length."""
DENSITY_POINTS, DENSITY_STEP = 1000, 0.004
"""Points of each scene whose density is compared with that of points close to them, and the standard deviation of the
distance, as a fraction of the side of the cube."""
RAY_CHUNK = 1 << 14
"""Number of rays, over all images, that inference renders at once; limits its memory."""


class Planes(NamedTuple):
    """The content of B scenes."""

    planes: Tensor
    """`[B, 3, H, W, C]`"""
    w: Tensor
    """`[B, w_dim]`, which the blocks behind the renderer need, too."""


class FeatureDecoder(nn.Module):
    """Two layers from features of the planes to features of a pixel and raw density."""

    def __init__(self, channels: int, hidden: int, features: int) -> None:
        super().__init__()
        self.hidden = EqualizedLinear(channels, hidden, activation="softplus")
        self.output = EqualizedLinear(hidden, features + 1)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., channels]` to `[..., features + 1]`."""
        return self.output(self.hidden(x.flatten(0, -2))).unflatten(0, x.shape[:-1])


class Upsampling(nn.Module):
    """Rendered features to images: blocks of modulated convolutions, each of which doubles the size (section 4.2)."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        count = config.upsampling.bit_length() - 1
        widths = [config.feature_channels, *(max(config.upsampling_channels >> k, 1) for k in range(count))]
        self.blocks = nn.ModuleList(
            SynthesisBlock(before, after, config.w_dim, 0, 3, noise=False) for before, after in pairwise(widths)
        )

    def forward(self, features: Tensor, w: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Features `[B, C, N, N]`, of which the first three are a color, to images `[B, 3, P, P]` in the dtype of w."""
        x, image = features.to(dtype or w.dtype).contiguous(memory_format=torch.channels_last), features[:, :3]
        for block in self.blocks:
            x, image = block(x, image, w, None, None)
        return image


class EG3DGenerator(Generator):
    """Maps latent vectors, classes and poses to tri-planes, renders features of them, and enlarges these."""

    schedules = ("density_noise", "pose_swap")

    def __init__(
        self,
        camera: CameraConfig,
        model: ModelConfig,
        num_classes: int,
        class_probabilities: Sequence[float] | None = None,
    ) -> None:
        settings = model.generator
        pose_width = POSE_WIDTH if settings.pose_conditioning else 0
        super().__init__(camera, model, num_classes, class_probabilities, pose_width)
        self.backbone = Backbone(settings, 3 * settings.plane_channels)
        self.decoder = FeatureDecoder(settings.plane_channels, settings.decoder_hidden, settings.feature_channels)
        self.upsampling = Upsampling(settings)
        self.axes = REPEATED_PLANE_AXES if settings.published_planes else PLANE_AXES
        self.ray_settings = RaySettings(
            near=camera.ray_start,
            far=camera.ray_end,
            half_width=settings.cube_half_width,
            contraction=settings.contraction,
            last_back=settings.last_back,
            midpoint=True,
            density_bias=DENSITY_BIAS,
            sigmoid_color=True,
        )

    def map(
        self, z: Tensor, labels: Tensor | None = None, truncation: float = 1.0, cameras: Tensor | None = None
    ) -> Tensor:
        """As in `Generator.map`, of the pose that the generator is conditioned on (section 4.4)."""
        if self.mapping.embed_pose is None:
            return self.mapping(z, labels, truncation)
        if cameras is None:
            cameras = frontal_cameras(self.camera_config, len(z), dtype=z.dtype, device=z.device)
        focal = 1 / torch.tan(torch.deg2rad(cameras[:, FOV, None]) / 2)
        poses = torch.cat([cam2world(cameras)[:, :3].flatten(1), focal], dim=1)
        return self.mapping(z, labels, truncation, poses)

    def make_content(self, w: Tensor, noise: list[Tensor] | None = None, dtype: torch.dtype | None = None) -> Planes:
        """w `[B, w_dim]` to planes."""
        image = self.backbone(w, noise, dtype)
        planes = image.unflatten(1, (3, self.model_config.generator.plane_channels))
        return Planes(planes.permute(0, 1, 3, 4, 2), w)

    @property
    def content_values(self) -> int:
        settings = self.model_config.generator
        return 3 * settings.plane_channels * settings.plane_resolution**2

    @property
    def content_description(self) -> str:
        sizes = self.model_config.generator
        return (
            f"three planes of {sizes.plane_resolution} x {sizes.plane_resolution} x {sizes.plane_channels}, half-width "
            f"{sizes.cube_half_width:g}; {sizes.feature_channels} rendered features, enlarged {sizes.upsampling} times"
        )

    def _field(self, content: Planes) -> Field:
        """Raw features and raw density of the scenes."""
        settings = self.ray_settings

        def field(points: Tensor) -> Tensor:
            space = dict(contraction=settings.contraction, axes=self.axes)
            return self.decoder(plane_features(content.planes, points, settings.half_width, **space))

        return field

    def _render_features(
        self, content: Planes, cameras: Tensor, resolution: int, randomness: RayRandomness, **options: float
    ) -> tuple[Tensor, Tensor]:
        """Features `[B, C, N, N]`, about [-1, 1], and depth `[B, 1, N, N]`, N being `resolution`."""
        chunk = None if torch.is_grad_enabled() else max(RAY_CHUNK // len(cameras), 1)
        settings = self.ray_settings._replace(**options)
        rendered = render_field(self._field(content), *rays(cameras, resolution), randomness, settings, chunk=chunk)
        size = (resolution, resolution)
        return rendered.rgb.mT.unflatten(2, size), rendered.depth[:, None].unflatten(2, size)

    @torch.no_grad()
    def render(
        self,
        content: Planes,
        cameras: Tensor,
        resolution: int,
        *,
        cut_quantile: float = 0.0,
        stop_when_opaque: bool = False,
    ) -> Rendering:
        """As in `Generator.render`; depth is enlarged from that of the rendered features."""
        settings = self.model_config.generator
        size = -(-resolution // settings.upsampling)
        numbers = len(cameras), size**2, settings.coarse_samples, settings.fine_samples, cameras
        features, depth = self._render_features(
            content, cameras, size, midpoint_randomness(*numbers), cut_quantile=cut_quantile
        )
        images = self.upsampling(features, content.w)
        if images.shape[-1] != resolution:
            images = F.interpolate(images, (resolution, resolution), mode="bilinear", antialias=True)
        return Rendering(images, F.interpolate(depth, (resolution, resolution), mode="bilinear"))

    def density(self, content: Planes, points: Tensor) -> Tensor:
        """Density `[B, N]` at points `[B, N, 3]` in scene units."""
        return F.softplus(self._field(content)(points)[..., -1] + DENSITY_BIAS)

    def color(self, content: Planes, points: Tensor) -> Tensor:
        """Color `[B, N, 3]` of the rendered image, about [-1, 1], at points `[B, N, 3]`."""
        return (torch.sigmoid(self._field(content)(points)[..., :3]) * 1.002 - 0.001) * 2 - 1

    def fakes(
        self,
        scenes: Scenes,
        scales: Tensor,
        offsets: Tensor,
        resolution: int,
        random: RandomNumbers,
        schedule: Schedule,
        dtype: torch.dtype | None = None,
    ) -> Fakes:
        """As in `Generator.fakes`: images, whole, and beside them the rendered ones, enlarged."""
        settings = self.model_config.generator
        z, labels, cameras = scenes
        others = prior_cameras(self.camera_config, random.uniform("swapped camera", PRIOR_DRAWS))
        swapped = random.uniform("pose swap")[:, None] < schedule("pose_swap")
        w = self.map(z, labels, cameras=torch.where(swapped, others, cameras))
        content = self.make_content(w, self.backbone.draw_noise(random), dtype)
        size = resolution // settings.upsampling
        randomness = draw_ray_randomness(random, settings, size**2, schedule("density_noise"))
        features, _ = self._render_features(content, cameras, size, randomness)
        images = self.upsampling(features, w, dtype)
        penalties = {}
        weight = schedule("density_regularization")
        if weight > 0 and torch.is_grad_enabled():
            penalties["density_regularization"] = weight * self._roughness(content, random)
        return Fakes(beside_rendering(images, features[:, :3]), w, penalties)

    def _roughness(self, content: Planes, random: RandomNumbers) -> Tensor:
        """Mean difference of density between random points of the cube and points close to them."""
        half_width = self.ray_settings.half_width
        points = (random.uniform("density points", DENSITY_POINTS, 3) * 2 - 1) * half_width
        step = random.normal("density steps", DENSITY_POINTS, 3) * (DENSITY_STEP * 2 * half_width)
        density = self.density(content, torch.cat([points, points + step], dim=1))
        here, there = density.chunk(2, dim=1)
        return (here - there).abs().mean()

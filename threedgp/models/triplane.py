"""Generator of 3DGP and EpiGRAF: mapping, tri-plane backbone, camera generator, renderer and depth adaptor."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from threedgp.camera.geometry import Patches, axis_cosines, rays
from threedgp.config import CameraConfig, ModelConfig
from threedgp.models.backbone import Backbone
from threedgp.models.background import add_background, background_colors
from threedgp.models.camera_generator import CameraGenerator
from threedgp.models.depth_adaptor import DepthAdaptor
from threedgp.models.generator import (
    DETERMINISTIC,
    FOR_DISPLAY,
    Fakes,
    Generator,
    Rendering,
    RenderOptions,
    Scenes,
    Schedule,
)
from threedgp.models.layers import EqualizedLinear, own_seed
from threedgp.models.novel_views import outer_cameras, warp
from threedgp.models.rays import as_image, draw_ray_randomness, evaluation_randomness, ray_settings
from threedgp.render import Decoder, RayRandomness, RaySettings, field_at_points, render_rays
from threedgp.runtime.counter_rng import NumberStream

RAY_CHUNK = 1 << 16
"""Number of rays, over all images, that inference renders at once; limits its memory."""


class Synthesis(NamedTuple):
    """Output of the generator in training."""

    rgb: Tensor
    """`[B, 3, P, P]`"""
    depth: Tensor
    """`[B, 1, P, P]`, rendered."""
    candidates: Tensor | None
    """`[B, K, 1, P, P]`, depth along the ray or the optical axis (`model.depth_axis`), see `DepthAdaptor.forward`; None
    without depth."""
    w: Tensor
    """`[B, w_dim]`"""
    cameras: Tensor
    """`[B, 8]`, posterior."""
    planes: Tensor
    """The content of the scenes."""


class FieldDecoder(nn.Module):
    """Two layers from tri-plane features to color and raw density; evaluated by the renderer."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.hidden = EqualizedLinear(channels, hidden)  # the renderer applies leaky ReLU and its gain
        self.output = EqualizedLinear(hidden, 4)

    def effective(self) -> Decoder:
        """Weights and biases with their gains applied."""
        return Decoder(*self.hidden.effective(), *self.output.effective())


class TriplaneGenerator(Generator):
    """Maps latent vectors and classes to tri-planes, and renders them from learned cameras (3DGP, section 3)."""

    schedules = ("density_noise", "raw_depth_probability")
    content_name = "planes"

    def __init__(self, camera: CameraConfig, model: ModelConfig, num_classes: int) -> None:
        super().__init__(camera, model, num_classes)
        settings = model.generator
        channels, has_background = 3 * settings.plane_channels, settings.background == "planes"
        background_channels = channels if has_background else 0
        self.backbone = Backbone(settings, channels, background_channels=background_channels, recompute=model.recompute)
        self.decoder = FieldDecoder(settings.plane_channels, settings.decoder_hidden)
        self.background_decoder = None
        if has_background:
            with own_seed("background decoder"):
                self.background_decoder = FieldDecoder(settings.plane_channels, settings.decoder_hidden)
        if model.depth:
            with own_seed("depth adaptor"):
                self.depth_adaptor = DepthAdaptor(model.depth_adaptor, camera.ray_start, camera.ray_end, settings.w_dim)
        self.camera_generator = CameraGenerator(camera, settings.z_dim, num_classes) if camera.learned else None
        self.ray_settings = ray_settings(camera, settings)

    def make_content(self, w: Tensor, noise: list[Tensor] | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """Map w `[B, w_dim]` to planes `[B, 3, H, W, C]`, contiguous in C; with a background, its planes follow:
        `[B, 6, H, W, C]`."""
        image = self.backbone(w, noise, dtype)
        planes = image.unflatten(1, (-1, self.model_config.generator.plane_channels))
        return planes.permute(0, 1, 3, 4, 2)

    @property
    def content_shape(self) -> tuple[int, ...]:
        sizes = self.model_config.generator
        num_planes = 3 if self.background_decoder is None else 6
        return num_planes, sizes.plane_resolution, sizes.plane_resolution, sizes.plane_channels

    def _render_rays(
        self,
        content: Tensor,
        origins: Tensor,
        directions: Tensor,
        randomness: RayRandomness,
        settings: RaySettings,
        **options: Any,
    ) -> tuple[Tensor, Tensor]:
        """Color `[B, R, 3]` and depth `[B, R]` of rays, the background included. The depth of the background is that of
        the end of the ray, the maximum of the depth adaptor's range. Options are those of `render_rays`."""
        planes, background = (content, None) if self.background_decoder is None else content.split(3, dim=1)
        front = render_rays(planes, self.decoder.effective(), origins, directions, randomness, settings, **options)
        if background is None:
            return front.rgb, front.depth
        colors = partial(background_colors, background, self.background_decoder.effective(), settings=settings)
        inputs = origins, directions, randomness.coarse
        return add_background(front, colors, inputs, settings.far, options.get("chunk"))

    def render(
        self, content: Tensor, cameras: Tensor, resolution: int, options: RenderOptions = DETERMINISTIC
    ) -> Rendering:
        """As in `Generator.render`, in chunks of rays."""
        origins, directions = rays(cameras, resolution)
        rgb, depth = self._render_rays(
            content,
            origins,
            directions,
            evaluation_randomness(options, self.model_config.generator, origins),
            self.ray_settings._replace(cut_quantile=options.cut_quantile, cut_batch=options.cut_batch),
            chunk=max(RAY_CHUNK // len(origins), 1),
            stop_when_opaque=options.stop_when_opaque,
        )
        return Rendering(as_image(rgb), as_image(depth[..., None]))

    @torch.no_grad()
    def render_parts(self, content: Tensor, cameras: Tensor, resolution: int, chunk: int) -> Iterator[Tensor]:
        """As in `Generator.render_parts`; rays do not depend on each other."""
        for origins, directions in zip(*(x.split(chunk, dim=1) for x in rays(cameras, resolution)), strict=True):
            randomness = evaluation_randomness(FOR_DISPLAY, self.model_config.generator, origins)
            stop = FOR_DISPLAY.stop_when_opaque
            rgb, depth = self._render_rays(
                content, origins, directions, randomness, self.ray_settings, stop_when_opaque=stop
            )
            yield torch.cat([rgb, depth[..., None]], dim=-1)

    @torch.no_grad()
    def _field(self, planes: Tensor, points: Tensor) -> Tensor:
        """Color and raw density `[B, N, 4]` of the foreground at points `[B, N, 3]`."""
        half_width, contraction = self.ray_settings.half_width, self.ray_settings.contraction
        decoder = self.decoder.effective()
        return field_at_points(planes[:, :3], decoder, points, half_width=half_width, contraction=contraction)

    def density(self, content: Tensor, points: Tensor) -> Tensor:
        """Density `[B, N]` of the foreground at points `[B, N, 3]` in scene units."""
        return F.softplus(self._field(content, points)[..., 3])

    def color(self, content: Tensor, points: Tensor) -> Tensor:
        """Color `[B, N, 3]` of the foreground, about [-1, 1], at points `[B, N, 3]`."""
        return self._field(content, points)[..., :3]

    def forward(
        self,
        scenes: Scenes,
        patches: Patches,
        resolution: int,
        randomness: RayRandomness,
        noise: list[Tensor] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Synthesis:
        """Patches of P = `resolution` pixels along each side, for training. `randomness` is that of both sampling
        passes; noise and dtype as in `Backbone.forward`."""
        z, labels, prior_cameras = scenes
        w = self.map(z, labels)
        cameras = self.posterior(prior_cameras, z, labels)
        origins, directions = rays(cameras, resolution, patches)
        planes = self.make_content(w, noise, dtype)
        rgb, depth = self._render_rays(planes, origins, directions, randomness, self.ray_settings)
        rgb, depth = as_image(rgb), as_image(depth[..., None])
        candidates = None
        if self.depth_adaptor is not None:
            cosines = 1.0
            if self.model_config.depth_axis == "z":
                cosines = axis_cosines(cameras, resolution, patches).view_as(depth)
            candidates = self.depth_adaptor(depth * cosines, w, cameras)
        return Synthesis(rgb, depth, candidates, w, cameras, planes)

    def fakes(
        self,
        scenes: Scenes,
        patches: Patches,
        random: NumberStream,
        schedule: Schedule,
        dtype: torch.dtype | None = None,
    ) -> Fakes:
        """As in `Generator.fakes`: color, and with `model.depth` one of the candidates for depth."""
        resolution = self.model_config.discriminator.patch_resolution
        randomness = draw_ray_randomness(random, self.model_config.generator, resolution**2, schedule("density_noise"))
        noise = self.backbone.draw_noise(random)
        synthesis = self(scenes, patches, resolution, randomness, noise, dtype)
        images, stats = synthesis.rgb, {}
        if synthesis.candidates is not None:
            u, raw_probability = random.uniform("depth candidate"), schedule("raw_depth_probability")
            depth = self.depth_adaptor.select(synthesis.candidates, u, raw_probability)
            images = torch.cat([images, depth], dim=1)
            stats = self.depth_adaptor.differences(synthesis.candidates, raw_probability)
        if not torch.is_grad_enabled() or not (weight := schedule("novel_view")):
            return Fakes(images, synthesis.w, stats=stats)
        u = random.uniform("novel view")
        difference = self._novel_view_difference(synthesis.planes, synthesis.cameras.detach(), resolution, u)
        return Fakes(images, synthesis.w, {"novel_view": weight * difference}, stats)

    def _novel_view_difference(self, planes: Tensor, cameras: Tensor, resolution: int, u: Tensor) -> Tensor:
        """Mean absolute differences of color, and of depth in units of half a ray, between views from outside of the
        prior and what views at its edge show of them; pixels that these do not show count as 0.

        Both views get a gradient. With the known view as a fixed target the difference grows: both show the same scene,
        so the target moves with every step.
        """
        near, far = self.ray_settings.near, self.ray_settings.far
        edge, beyond = outer_cameras(self.camera_config, cameras, u)
        known, view = (torch.cat(self.render(planes, one, resolution), dim=1) for one in (edge, beyond))
        target, visible = warp(known, edge, beyond, (near, far))
        difference = torch.where(visible, (view - target).abs(), 0)
        return difference[:, :3].mean() + difference[:, 3:].mean() * 2 / (far - near)

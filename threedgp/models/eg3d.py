"""EG3D (Chan et al. 2022): features of tri-planes are rendered at a low resolution and enlarged by 2D convolutions.

Two things differ from the paper. Cameras of the real images are not known here, so the discriminator does not see them.
And the planes are xy, xz and yz; those of the published models are xy, xz and zx, where the third repeats the second.
`model.generator.published_planes` gives these.
"""

from __future__ import annotations

from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from threedgp.camera.geometry import cam2world, focal_lengths
from threedgp.camera.priors import PRIOR_DRAWS, frontal_cameras
from threedgp.config import CameraConfig, ModelConfig
from threedgp.models.backbone import Backbone
from threedgp.models.feature_rendering import FeatureGenerator, StyledContent
from threedgp.models.generator import Scenes, Schedule
from threedgp.models.layers import EqualizedLinear
from threedgp.render.features import Field
from threedgp.render.field import PLANE_AXES, REPEATED_PLANE_AXES, plane_features
from threedgp.runtime.counter_rng import NumberStream

DENSITY_POINTS, DENSITY_STEP = 1000, 0.004
"""Points of each scene whose density is compared with that of points close to them, and the standard deviation of the
offset along each axis, as a fraction of the side of the cube."""


class FeatureDecoder(nn.Module):
    """Two layers from features of the planes to features of a pixel and raw density."""

    def __init__(self, channels: int, hidden: int, features: int) -> None:
        super().__init__()
        self.hidden = EqualizedLinear(channels, hidden, activation="softplus")
        self.output = EqualizedLinear(hidden, features + 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, N, channels]` to `[B, N, features + 1]`."""
        return self.output(self.hidden(x))


class EG3DGenerator(FeatureGenerator):
    """Maps latent vectors, classes and poses to tri-planes, renders features of them, and enlarges these."""

    pose_width = 13  # 12 numbers of the camera-to-world matrix, and the focal length
    schedules = ("density_noise", "pose_swap")
    content_name = "planes"
    ray_options = MappingProxyType(dict(midpoint=True, density_bias=-1.0, sigmoid_color=True))

    def __init__(self, camera: CameraConfig, model: ModelConfig, num_classes: int) -> None:
        super().__init__(camera, model, num_classes)
        settings = model.generator
        self.backbone = Backbone(settings, 3 * settings.plane_channels, recompute=model.recompute)
        self.decoder = FeatureDecoder(settings.plane_channels, settings.decoder_hidden, settings.feature_channels)
        self.axes = REPEATED_PLANE_AXES if settings.published_planes else PLANE_AXES

    def map(
        self, z: Tensor, labels: Tensor | None = None, truncation: float = 1.0, cameras: Tensor | None = None
    ) -> Tensor:
        """As in `Generator.map`, of the pose that the generator is conditioned on (section 4.4)."""
        if self.mapping.embed_pose is None:
            return self.mapping(z, labels, truncation)
        if cameras is None:
            cameras = frontal_cameras(self.camera_config, len(z), dtype=z.dtype, device=z.device)
        poses = torch.cat([cam2world(cameras)[:, :3].flatten(1), focal_lengths(cameras)[:, None]], dim=1)
        return self.mapping(z, labels, truncation, poses)

    def training_styles(self, scenes: Scenes, random: NumberStream, schedule: Schedule) -> Tensor:
        """w of scenes; some see the pose of another camera than the one that the scene is rendered from."""
        others = self.prior(random.uniform("swapped camera", PRIOR_DRAWS), scenes.labels)
        swapped = random.uniform("pose swap")[:, None] < schedule("pose_swap")
        return self.map(scenes.z, scenes.labels, cameras=torch.where(swapped, others, scenes.prior_cameras))

    def draw_noise(self, random: NumberStream) -> list[Tensor] | None:
        return self.backbone.draw_noise(random)

    def make_content(
        self, w: Tensor, noise: list[Tensor] | None = None, dtype: torch.dtype | None = None
    ) -> StyledContent:
        """Map w `[B, w_dim]` to planes `[B, 3, H, W, C]`."""
        image = self.backbone(w, noise, dtype)
        planes = image.unflatten(1, (3, self.model_config.generator.plane_channels))
        return StyledContent(planes.permute(0, 1, 3, 4, 2), w)

    @property
    def content_shape(self) -> tuple[int, ...]:
        sizes = self.model_config.generator
        return 3, sizes.plane_resolution, sizes.plane_resolution, sizes.plane_channels

    def field(self, content: StyledContent) -> Field:
        """Raw features and raw density, decoded from the planes."""
        space = dict(half_width=self.ray_settings.half_width, contraction=self.ray_settings.contraction, axes=self.axes)
        return lambda points: self.decoder(plane_features(content.values, points, **space))

    def discriminator_input(self, images: Tensor, features: Tensor) -> Tensor:
        """Images `[B, 3, P, P]` followed by the rendered ones, enlarged: `[B, 6, P, P]` (dual discrimination, section
        4.3)."""
        return torch.cat([images, F.interpolate(features[:, :3], images.shape[2:], mode="bilinear")], dim=1)

    def penalties(
        self, content: StyledContent, images: Tensor, scenes: Scenes, random: NumberStream, schedule: Schedule
    ) -> dict[str, Tensor]:
        """Density regularization: the mean difference between random points of the cube and points close to them."""
        weight = schedule("density_regularization")
        if not weight:
            return {}
        half_width = self.ray_settings.half_width
        points = (random.uniform("density points", DENSITY_POINTS, 3) * 2 - 1) * half_width
        step = random.normal("density steps", DENSITY_POINTS, 3) * (DENSITY_STEP * 2 * half_width)
        here, there = self.density(content, torch.cat([points, points + step], dim=1)).chunk(2, dim=1)
        return {"density_regularization": weight * (here - there).abs().mean()}

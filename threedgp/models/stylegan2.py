"""StyleGAN2 (Karras et al. 2020): the same mapping and backbone, with an image where the tri-planes would be."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.config import CameraConfig, ModelConfig
from threedgp.models.backbone import Backbone
from threedgp.models.generator import Fakes, Generator, RandomNumbers, Rendering, Scenes, Schedule


class ImageGenerator(Generator):
    """Maps latent vectors and classes to images. There is no scene behind them: cameras change nothing."""

    has_density = False

    def __init__(
        self,
        camera: CameraConfig,
        model: ModelConfig,
        num_classes: int,
        class_probabilities: Sequence[float] | None = None,
    ) -> None:
        super().__init__(camera, model, num_classes, class_probabilities)
        self.backbone = Backbone(model.generator, 3, recompute=model.recompute)

    def make_content(self, w: Tensor, noise: list[Tensor] | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """w `[B, w_dim]` to images `[B, 3, H, W]`, H and W being `plane_resolution`."""
        return self.backbone(w, noise, dtype)

    @property
    def content_values(self) -> int:
        return 3 * self.model_config.generator.plane_resolution**2

    @property
    def content_description(self) -> str:
        side = self.model_config.generator.plane_resolution
        return f"an image of {side} x {side}"

    def render(
        self,
        content: Tensor,
        cameras: Tensor,
        resolution: int,
        *,
        cut_quantile: float = 0.0,
        cut_batch: bool = False,
        random: RandomNumbers | None = None,
        stop_when_opaque: bool = False,
    ) -> Rendering:
        """The images, resized if they have another resolution."""
        if content.shape[-1] != resolution:
            content = F.interpolate(content, (resolution, resolution), mode="bilinear", antialias=True)
        return Rendering(content, None)

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
        """As in `Generator.fakes`; the images are whole."""
        w = self.map(scenes.z, scenes.labels)
        return Fakes(self.make_content(w, self.backbone.draw_noise(random), dtype), w)

"""StyleGAN2 (Karras et al. 2020): the same mapping and backbone, with an image where the tri-planes would be."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.camera.geometry import Patches
from threedgp.config import CameraConfig, ModelConfig
from threedgp.models.backbone import Backbone
from threedgp.models.generator import (
    DETERMINISTIC,
    Fakes,
    Generator,
    Rendering,
    RenderOptions,
    Scenes,
    Schedule,
)
from threedgp.runtime.counter_rng import NumberStream


class ImageGenerator(Generator):
    """Maps latent vectors and classes to images. There is no scene behind them: cameras change nothing."""

    has_density = False
    content_name = "image"

    def __init__(self, camera: CameraConfig, model: ModelConfig, num_classes: int) -> None:
        super().__init__(camera, model, num_classes)
        self.backbone = Backbone(model.generator, 3, recompute=model.recompute)

    def make_content(self, w: Tensor, noise: list[Tensor] | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """Map w `[B, w_dim]` to images `[B, 3, H, W]`, H and W being `plane_resolution`."""
        return self.backbone(w, noise, dtype)

    @property
    def content_shape(self) -> tuple[int, ...]:
        side = self.model_config.generator.plane_resolution
        return 3, side, side

    def render(
        self, content: Tensor, cameras: Tensor, resolution: int, options: RenderOptions = DETERMINISTIC
    ) -> Rendering:
        """The images, resized if they have another resolution."""
        if content.shape[-1] != resolution:
            content = F.interpolate(content, (resolution, resolution), mode="bilinear", antialias=True)
        return Rendering(content, None)

    def fakes(
        self,
        scenes: Scenes,
        patches: Patches,
        random: NumberStream,
        schedule: Schedule,
        dtype: torch.dtype | None = None,
    ) -> Fakes:
        """As in `Generator.fakes`; the images are whole."""
        w = self.map(scenes.z, scenes.labels)
        return Fakes(self.make_content(w, self.backbone.draw_noise(random), dtype), w)

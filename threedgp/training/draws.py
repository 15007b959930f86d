"""Random numbers of a training step, as functions of seed, phase and global sample index."""

from __future__ import annotations

import torch
from torch import Tensor

from threedgp.camera.geometry import Patches
from threedgp.config import Config
from threedgp.models.generator import Generator, Scenes
from threedgp.models.sampler import draw_scenes
from threedgp.runtime.counter_rng import NumberStream
from threedgp.training.patches import draw_patches


class Draws(NumberStream):
    """Random numbers for the samples `index`, int64 `[B]`, in one phase (`generator`, `real`, ...) of a step.

    The global index of a sample counts all samples of the run and therefore identifies the step. `stream`, the number
    of the random stream, changes after a rollback.
    """

    def __init__(
        self, config: Config, phase: str, index: Tensor, *, stream: int = 0, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(config.train.seed, f"{phase}, stream {stream}" if stream else phase, index, dtype)
        self.config = config

    def scenes(self, generator: Generator, labels: Tensor | None = None) -> Scenes:
        """Latent vectors, classes and prior cameras; `labels` int64 `[B]` are the classes, None = drawn."""
        if labels is None and self.config.train.fake_labels == "balanced" and generator.num_classes:
            labels = (self.uniform("label") * generator.num_classes).long()
        return draw_scenes(generator, self.seed, self.use, self.index, labels)

    def patches(self, beta: float) -> Patches:
        """Positions of the patches."""
        return draw_patches(
            self.uniform("patch scale"),
            self.uniform("patch offset", 2),
            scale_min=self.config.train.patch_scale_min,
            beta=beta,
            group=self.config.model.discriminator.minibatch_std_group,
        )

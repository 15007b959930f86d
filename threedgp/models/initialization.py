"""Networks of every kind, and their initialization as a function of a seed."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from threedgp.config import CameraConfig, Config, ModelConfig
from threedgp.models.discriminator import Discriminator
from threedgp.models.eg3d import EG3DGenerator
from threedgp.models.generator import Generator
from threedgp.models.stylegan2 import ImageGenerator
from threedgp.models.stylenerf import StyleNeRFGenerator
from threedgp.models.triplane import TriplaneGenerator
from threedgp.models.volumegan import VolumeGenerator

GENERATORS: dict[str, type[Generator]] = {
    "3dgp": TriplaneGenerator,
    "epigraf": TriplaneGenerator,
    "stylegan2": ImageGenerator,
    "eg3d": EG3DGenerator,
    "volumegan": VolumeGenerator,
    "stylenerf": StyleNeRFGenerator,
}
"""The generator of each `model.kind`."""


def initial_generator(
    camera: CameraConfig,
    model: ModelConfig,
    num_classes: int,
    class_probabilities: list[float],
    seed: int,
    fov_quantiles: Sequence[Sequence[float]] | None = None,
) -> Generator:
    """A generator at its initialization; frequencies of the classes and `fov_quantiles` as in `Generator`. PyTorch's
    global random state is not changed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = GENERATORS[model.kind](camera, model, num_classes)
    generator.class_probabilities = list(class_probabilities or [])
    if camera.prior == "estimated" and fov_quantiles:
        generator.fov_quantiles = torch.tensor(fov_quantiles)
    return generator


def initial_networks(
    config: Config,
    num_classes: int,
    class_probabilities: list[float],
    num_features: int,
    fov_quantiles: Sequence[Sequence[float]] | None = None,
) -> tuple[Generator, Discriminator]:
    """Both networks at their initialization, which depends on `train.seed` only.

    `num_classes` of the data is ignored if the model is unconditional; `num_features` is the width of the classifier
    features to predict, 0 = none; `fov_quantiles` are those of the data, for the prior `estimated`.
    """
    if not config.model.class_conditional:
        num_classes, class_probabilities, fov_quantiles = 0, [], fov_quantiles and fov_quantiles[:1]
    if config.train.distillation.loss == "none":
        num_features = 0
    seed = config.train.seed
    generator = initial_generator(config.camera, config.model, num_classes, class_probabilities, seed, fov_quantiles)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        discriminator = Discriminator(config.model, config.dataset.resolution, num_classes, num_features)
    return generator, discriminator

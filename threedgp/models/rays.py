"""Random numbers of rendering, for training."""

from __future__ import annotations

from threedgp.config import GeneratorConfig
from threedgp.models.generator import RandomNumbers
from threedgp.render import RayRandomness


def draw_ray_randomness(
    random: RandomNumbers, settings: GeneratorConfig, count: int, density_noise: float
) -> RayRandomness:
    """Numbers of both sampling passes for `count` rays per image; `density_noise` is a standard deviation."""
    coarse, fine = settings.coarse_samples, settings.fine_samples
    noises = (None, None)
    if density_noise > 0:
        noises = (
            random.normal("coarse noise", count, coarse) * density_noise,
            random.normal("fine noise", count, fine) * density_noise,
        )
    return RayRandomness(random.uniform("coarse", count, coarse), random.uniform("fine", count, fine), *noises)

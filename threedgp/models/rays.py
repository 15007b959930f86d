"""Rays of generators: their settings, their random numbers, and images of their values."""

from __future__ import annotations

from torch import Tensor

from threedgp.config import CameraConfig, GeneratorConfig
from threedgp.models.generator import RenderOptions
from threedgp.render import RayRandomness, RaySettings, midpoint_randomness
from threedgp.runtime.counter_rng import NumberStream


def ray_settings(camera: CameraConfig, settings: GeneratorConfig) -> RaySettings:
    """How rays are sampled and composited by the settings of a model."""
    opaque = settings.background == "none"
    return RaySettings(
        near=camera.ray_start,
        far=camera.ray_end,
        half_width=settings.cube_half_width,
        contraction=settings.contraction,
        infinite_last_interval=settings.infinite_last_interval and opaque,
        last_back=settings.last_back and opaque,
    )


def draw_ray_randomness(
    random: NumberStream, settings: GeneratorConfig, count: int, density_noise: float
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


def evaluation_randomness(options: RenderOptions, settings: GeneratorConfig, origins: Tensor) -> RayRandomness:
    """Numbers of both sampling passes for rays `[B, R, 3]`, without noise, as `options` say."""
    if options.random is not None:
        return draw_ray_randomness(options.random, settings, origins.shape[1], density_noise=0.0)
    coarse, fine = (options.sampling_multiplier * count for count in (settings.coarse_samples, settings.fine_samples))
    return midpoint_randomness(*origins.shape[:2], coarse, fine, origins)


def as_image(values: Tensor) -> Tensor:
    """Values of the pixels of square images, row by row, `[B, N * N, C]`, as `[B, C, N, N]`."""
    size = round(values.shape[1] ** 0.5)
    return values.mT.unflatten(2, (size, size))

"""Volume rendering of features from any field, in PyTorch: for models that turn rendered features into images in 2D."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from threedgp.render.compositing import Composite, CompositeSettings, composite_reference
from threedgp.render.renderer import RayRandomness, RaySettings, composite_options, render_in_chunks
from threedgp.render.sampling import fine_distances, stratified_distances

Field = Callable[[Tensor], Tensor]
"""From points `[B, N, 3]` in scene units to F features and the raw density, `[B, N, F + 1]`."""


def render_field(
    field: Field,
    origins: Tensor,
    directions: Tensor,
    randomness: RayRandomness,
    settings: RaySettings,
    *,
    chunk: int | None = None,
) -> Composite:
    """Features and depth of rays, as `render_rays` has color and depth: a stratified coarse pass, a fine pass where it
    found density, and the union of both.

    Args:
        field: what is rendered.
        origins, directions: `[B, R, 3]`.
        randomness: random numbers of both passes.
        settings: bounds of the rays and options; `half_width` and `contraction` belong to the field.
        chunk: rays of each image that are rendered at once, to limit memory at inference; None = all.

    Returns:
        the composite, features `[B, R, F]` in the place of color.
    """
    sample = partial(_sample, field, settings=settings)
    composite = partial(composite_reference, settings=CompositeSettings(**composite_options(settings)))
    return render_in_chunks(sample, composite, origins, directions, randomness, settings, chunk)


def composite_features(samples: Tensor, distances: Tensor) -> Tensor:
    """Features `[B, R, F]` of samples `[B, R, S, F + 1]` at increasing distances `[B, R, S]`; nothing passes the last
    one."""
    return composite_reference((samples,), (distances,), CompositeSettings()).rgb


def _sample(
    field: Field, origins: Tensor, directions: Tensor, randomness: RayRandomness, settings: RaySettings
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Distances `[B, R, S]` and samples `[B, R, S, F + 1]` of each pass."""

    def along_rays(distances: Tensor, noise: Tensor | None) -> Tensor:
        points = origins[:, :, None] + distances[..., None] * directions[:, :, None]  # [B, R, S, 3]
        samples = field(points.flatten(1, 2)).unflatten(1, distances.shape[1:])
        if noise is None:
            return samples
        return torch.cat([samples[..., :-1], samples[..., -1:] + noise[..., None]], dim=-1)

    distances = stratified_distances(randomness.coarse, settings.near, settings.far)
    samples = along_rays(distances, randomness.coarse_noise)
    if not randomness.fine.shape[-1]:
        return (distances,), (samples,)
    fine = fine_distances(distances, samples, randomness.fine, settings.density_bias, "torch")
    return (distances, fine), (samples, along_rays(fine, randomness.fine_noise))

"""Hierarchical volume rendering of tri-plane scenes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from threedgp.render.compositing import Composite, composite
from threedgp.render.field import Decoder, field_along_rays
from threedgp.render.sampling import importance_distances, merge_samples, stratified_distances


class RaySettings(NamedTuple):
    """How rays are sampled and composited."""

    near: float
    far: float
    half_width: float
    infinite_last_interval: bool = True
    last_back: bool = False
    cut_quantile: float = 0.0
    """Densities under this quantile of the image's samples count as empty (metrics only)."""


EMPTY_RAW_DENSITY = -100.0  # its softplus is 0 in float32 for every interval but the infinite one


class RayRandomness(NamedTuple):
    """Every random number that rendering takes."""

    coarse: Tensor
    """`[B, R, S_c]`, uniform."""
    fine: Tensor
    """`[B, R, S_f]`, uniform; S_f = 0 renders the first pass alone."""
    coarse_noise: Tensor | None = None
    """`[B, R, S_c]`, added to raw density."""
    fine_noise: Tensor | None = None
    """`[B, R, S_f]`, added to raw density."""


def midpoint_randomness(batch: int, count: int, coarse: int, fine: int, like: Tensor) -> RayRandomness:
    """The deterministic choice for evaluation: middle of every cell, evenly spaced quantiles."""
    middle = like.new_full((1, 1, 1), 0.5).expand(batch, count, coarse)
    quantiles = (torch.arange(fine, dtype=like.dtype, device=like.device) + 0.5) / max(fine, 1)
    return RayRandomness(middle, quantiles.expand(batch, count, fine))


def _add_noise(samples: Tensor, noise: Tensor | None) -> Tensor:
    if noise is None:
        return samples
    return torch.cat([samples[..., :3], samples[..., 3:] + noise[..., None]], dim=-1)


def _cut(samples: Tensor, quantile: float) -> Tensor:
    """Raw densities under the `quantile` of each image, over rays and samples, become empty."""
    raw = samples[..., 3]
    ranked = raw.flatten(1).sort(dim=1).values  # torch.quantile refuses more than 2^24 values
    threshold = ranked[:, min(int(quantile * ranked.shape[1]), ranked.shape[1] - 1)]
    raw = torch.where(raw < threshold[:, None, None], torch.full_like(raw, EMPTY_RAW_DENSITY), raw)
    return torch.cat([samples[..., :3], raw[..., None]], dim=-1)


def sample_rays(
    planes: Tensor,
    decoder: Decoder,
    origins: Tensor,
    directions: Tensor,
    randomness: RayRandomness,
    settings: RaySettings,
) -> tuple[Tensor, Tensor]:
    """Distances and samples of both passes, sorted along each ray: `[B, R, S]` and `[B, R, S, 4]`.

    First-pass evaluations are used twice, for the proposal and in the union. Arguments as in `render_rays`.
    """

    def evaluate(distances: Tensor, noise: Tensor | None) -> Tensor:
        samples = field_along_rays(planes, decoder, origins, directions, distances, half_width=settings.half_width)
        return _add_noise(samples, noise)

    distances = stratified_distances(randomness.coarse, settings.near, settings.far)
    samples = evaluate(distances, randomness.coarse_noise)
    if not randomness.fine.shape[-1]:
        return distances, samples
    with torch.no_grad():
        proposal = composite(samples, distances, **_switches(settings)).weights
    fine = importance_distances(distances, proposal, randomness.fine)
    return merge_samples((distances, fine), (samples, evaluate(fine, randomness.fine_noise)))


def _switches(settings: RaySettings) -> dict[str, bool]:
    return dict(infinite_last_interval=settings.infinite_last_interval, last_back=settings.last_back)


def render_rays(
    planes: Tensor,
    decoder: Decoder,
    origins: Tensor,
    directions: Tensor,
    randomness: RayRandomness,
    settings: RaySettings,
    *,
    chunk: int | None = None,
) -> Composite:
    """Colour and depth of rays: a stratified pass, samples where it found density, and the sorted union of both.

    Args:
        planes: `[B, 3, H, W, C]`.
        decoder: effective weights of the field's decoder.
        origins, directions: `[B, R, 3]`.
        randomness: numbers for both passes.
        settings: bounds and switches.
        chunk: rays of each image that are sampled at once, to bound memory at inference; None = all.

    Returns:
        the composite of S_c + S_f samples a ray. Differentiable in planes, decoder, origins and directions; distances
        carry no gradient.
    """
    pieces = []
    for start in range(0, origins.shape[1], chunk or origins.shape[1]):
        part = slice(start, start + chunk if chunk else None)
        numbers = RayRandomness(*(None if x is None else x[:, part] for x in randomness))
        pieces.append(sample_rays(planes, decoder, origins[:, part], directions[:, part], numbers, settings))
    distances, samples = pieces[0] if len(pieces) == 1 else (torch.cat(x, dim=1) for x in zip(*pieces, strict=True))
    if settings.cut_quantile > 0:
        samples = _cut(samples, settings.cut_quantile)
    return composite(samples, distances, **_switches(settings))

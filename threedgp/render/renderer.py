"""Hierarchical volume rendering of tri-plane scenes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from threedgp.render.arguments import (
    check_field,
    check_noise,
    check_planes,
    check_second_pass,
    expect_floating,
    expect_interval,
    expect_shape,
)
from threedgp.render.compositing import Composite, composite_union
from threedgp.render.engines import Backend, field_engine
from threedgp.render.field import EMPTY_RAW_DENSITY, Decoder, field_along_rays
from threedgp.render.field_operators import field, field_in_two_passes
from threedgp.render.sampling import fine_distances, stratified_distances


class RaySettings(NamedTuple):
    """How rays are sampled and composited; defaults are those of 3DGP."""

    near: float
    far: float
    half_width: float
    infinite_last_interval: bool = True
    last_back: bool = False
    cut_quantile: float = 0.0
    """Densities under this quantile of the image's samples count as empty (metrics only)."""
    contraction: bool = False
    """The planes cover all of space, contracted to radius 2 half-widths (Mip-NeRF 360)."""
    midpoint: bool = False
    """Composite intervals between samples (EG3D) instead of samples."""
    density_bias: float = 0.0
    """Added to raw density (EG3D: -1)."""
    sigmoid_color: bool = False
    """Squash colour and scale it to [-1, 1] (EG3D)."""
    white_background: bool = False


OPAQUE_DEPTH = 9.21
"""Optical depth behind which `stop_when_opaque` looks no further: 0.01 % of the light is left."""


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
    """The deterministic choice for evaluation: middle of every cell, evenly spaced quantiles.

    Raises:
        ValueError: for a negative number of something, or a `like` that cannot hold halves.
    """
    expect_floating("like", like)
    for name, number in (("batch", batch), ("count", count), ("coarse", coarse), ("fine", fine)):
        if number < 0:
            raise ValueError(f"{name}: expected 0 or more, got {number}")
    middle = like.new_full((1, 1, 1), 0.5).expand(batch, count, coarse)
    quantiles = (torch.arange(fine, dtype=like.dtype, device=like.device) + 0.5) / max(fine, 1)
    return RayRandomness(middle, quantiles.expand(batch, count, fine))


def _cut(samples: tuple[Tensor, ...], quantile: float) -> tuple[Tensor, ...]:
    """Raw densities under the `quantile` of each image, over rays and samples, become empty."""
    ranked = torch.cat([s[..., 3].flatten(1) for s in samples], dim=1).sort(dim=1).values
    if not ranked.numel():
        return samples
    # torch.quantile refuses more than 2^24 values
    threshold = ranked[:, min(int(quantile * ranked.shape[1]), ranked.shape[1] - 1), None, None]

    def cut(values: Tensor) -> Tensor:
        raw = torch.where(values[..., 3] < threshold, EMPTY_RAW_DENSITY, values[..., 3])
        return torch.cat([values[..., :3], raw[..., None]], dim=-1)

    return tuple(cut(s) for s in samples)


def sample_rays(
    planes: Tensor,
    decoder: Decoder,
    origins: Tensor,
    directions: Tensor,
    randomness: RayRandomness,
    settings: RaySettings,
    *,
    stop_when_opaque: bool = False,
    backend: Backend = "auto",
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Distances and samples of both passes: each `[B, R, S]` and `[B, R, S, 4]`, not yet merged.

    First-pass evaluations are used twice, for the proposal and in the union. Arguments as in `render_rays`, which
    checks them.
    """
    randomness = RayRandomness(*(None if x is None else x.detach() for x in randomness))
    distances = stratified_distances(randomness.coarse, settings.near, settings.far)
    u, noises = randomness.fine, (randomness.coarse_noise, randomness.fine_noise)
    name = field_engine(backend, planes, decoder, distances)
    opaque_depth = OPAQUE_DEPTH if stop_when_opaque else 0.0
    space = (settings.half_width, settings.contraction)
    if name == "torch":
        along = dict(half_width=settings.half_width, contraction=settings.contraction, backend=name)
        rays = (planes, decoder, origins, directions)
        samples = field_along_rays(*rays, distances, noise=noises[0], **along)
        if not u.shape[-1]:
            return (distances,), (samples,)
        fine = fine_distances(distances, samples, u, settings.density_bias, name)
        return (distances, fine), (samples, field_along_rays(*rays, fine, noise=noises[1], **along))
    rays = (planes, *(x.contiguous() for x in (*decoder, origins, directions, distances)))
    first_noise, second_noise = (None if n is None else n.contiguous() for n in noises)
    if not u.shape[-1]:
        return (distances,), (field(*rays, first_noise, *space, settings.density_bias, opaque_depth, name),)
    samples, fine, fine_samples = field_in_two_passes(
        *(*rays, u.contiguous(), first_noise, second_noise, *space, settings.density_bias, opaque_depth, name)
    )
    return (distances, fine), (samples, fine_samples)


def _check(
    planes: Tensor,
    decoder: Decoder,
    origins: Tensor,
    directions: Tensor,
    randomness: RayRandomness,
    settings: RaySettings,
) -> None:
    """Raise ValueError for the first argument of `render_rays` that does not fit the others."""
    check_planes(planes)
    coarse, fine, coarse_noise, fine_noise = randomness
    expect_shape("randomness.coarse", coarse, (planes.shape[0], "R", "S_c"))
    check_field(planes, decoder, origins, directions, coarse, settings.half_width, like_name="randomness.coarse")
    check_noise("randomness.coarse_noise", coarse_noise, coarse, "randomness.coarse")
    check_second_pass(coarse, fine, fine_noise)
    expect_interval(settings.near, settings.far)
    if not 0 <= settings.cut_quantile <= 1:
        raise ValueError(f"cut_quantile: expected a share from 0 to 1, got {settings.cut_quantile}")


def render_rays(
    planes: Tensor,
    decoder: Decoder,
    origins: Tensor,
    directions: Tensor,
    randomness: RayRandomness,
    settings: RaySettings,
    *,
    chunk: int | None = None,
    stop_when_opaque: bool = False,
    backend: Backend = "auto",
) -> Composite:
    """Colour and depth of rays: a stratified pass, samples where it found density, and the sorted union of both.

    Args:
        planes: `[B, 3, H, W, C]`.
        decoder: effective weights of the field's decoder.
        origins, directions: `[B, R, 3]`.
        randomness: numbers for both passes.
        settings: bounds and switches.
        chunk: rays of each image that are sampled at once, to bound memory at inference; None = all.
        stop_when_opaque: for inference: leave out first-pass samples behind which no more than 0.01 % of the light
            gets, as far as the first pass can tell. None is left out by engine `torch`, with `cut_quantile` (which
            needs all densities), or with `midpoint` (whose intervals need both ends). Not where a gradient is asked
            for.
        backend: see `Backend`.

    Returns:
        the composite of S_c + S_f samples a ray. Differentiable in planes, decoder, origins and directions; distances
        carry no gradient.

    Raises:
        ValueError: naming the argument whose shape, dtype, device or value is wrong.
    """
    _check(planes, decoder, origins, directions, randomness, settings)
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk: expected at least 1 ray, or None, got {chunk}")
    if (
        stop_when_opaque
        and torch.is_grad_enabled()
        and any(x.requires_grad for x in (planes, *decoder, origins, directions))
    ):
        raise ValueError("stop_when_opaque: samples left out have no gradient; render under torch.no_grad()")
    switches = dict(
        infinite_last_interval=settings.infinite_last_interval,
        last_back=settings.last_back,
        midpoint=settings.midpoint,
        density_bias=settings.density_bias,
        sigmoid_color=settings.sigmoid_color,
        white_background=settings.white_background,
        backend=backend,
    )
    stop = stop_when_opaque and not settings.cut_quantile and not settings.midpoint
    pieces = []
    count = max(origins.shape[1], 1)  # of no rays there is one piece, too
    for start in range(0, count, chunk or count):
        part = slice(start, start + chunk if chunk else None)
        numbers = RayRandomness(*(None if x is None else x[:, part] for x in randomness))
        rays = (origins[:, part], directions[:, part])
        distances, samples = sample_rays(
            *(planes, decoder, *rays, numbers, settings), stop_when_opaque=stop, backend=backend
        )
        # A quantile is over the whole image, so its samples have to be together; else a chunk is done with.
        pieces.append(
            (samples, distances) if settings.cut_quantile else composite_union(samples, distances, **switches)
        )
    if settings.cut_quantile:
        samples, distances = (
            tuple(torch.cat(x, dim=1) for x in zip(*s, strict=True)) for s in zip(*pieces, strict=True)
        )
        return composite_union(_cut(samples, settings.cut_quantile), distances, **switches)
    return pieces[0] if len(pieces) == 1 else Composite(*(torch.cat(x, dim=1) for x in zip(*pieces, strict=True)))

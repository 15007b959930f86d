"""Hierarchical volume rendering of tri-plane scenes (Mildenhall et al. 2020, section 5.2; Chan et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from threedgp.render.arguments import (
    check_field,
    check_noise,
    check_planes,
    expect_floating,
    expect_interval,
    expect_like,
    expect_shape,
)
from threedgp.render.backends import Backend, field_backend
from threedgp.render.compositing import Composite, CompositeSettings, composite
from threedgp.render.decoder import EMPTY_RAW_DENSITY, Decoder
from threedgp.render.field import Scene, field_passes
from threedgp.render.sampling import stratified_distances


class RaySettings(NamedTuple):
    """How rays are sampled and composited; defaults are those of 3DGP."""

    near: float
    """Distance along the ray at which sampling starts, in scene units."""
    far: float
    """Distance along the ray at which sampling ends, in scene units."""
    half_width: float
    """Half the edge length of the cube that the planes cover, in scene units."""
    infinite_last_interval: bool = True
    """The last sample extends to infinity."""
    last_back: bool = False
    """The last sample gets the remaining weight."""
    cut_quantile: float = 0.0
    """Samples whose density is below this quantile of the image are empty (metrics only)."""
    cut_batch: bool = False
    """The quantile is that of all images of the batch, as published."""
    contraction: bool = False
    """The planes cover all of space, contracted to radius 2 half-widths (Barron et al. 2022)."""
    midpoint: bool = False
    """Composite the intervals between samples (EG3D) instead of samples."""
    density_bias: float = 0.0
    """Added to raw density (EG3D: -1)."""
    sigmoid_color: bool = False
    """Apply a sigmoid to color and scale it to [-1, 1] (EG3D)."""
    white_background: bool = False
    """Light that passes all samples is white."""


def composite_options(settings: RaySettings) -> dict[str, Any]:
    """The settings that are arguments of `composite`."""
    return {name: getattr(settings, name) for name in CompositeSettings._fields}


OPAQUE_DEPTH = 9.21
"""Optical depth behind which `stop_when_opaque` leaves out samples: 0.01 % of the light passes it."""


class RayRandomness(NamedTuple):
    """All random numbers that rendering uses."""

    coarse: Tensor
    """`[B, R, S_c]`, uniform."""
    fine: Tensor
    """`[B, R, S_f]`, uniform; S_f = 0 renders the coarse pass alone."""
    coarse_noise: Tensor | None = None
    """`[B, R, S_c]`, added to raw density."""
    fine_noise: Tensor | None = None
    """`[B, R, S_f]`, added to raw density."""


def midpoint_randomness(batch: int, count: int, coarse: int, fine: int, like: Tensor) -> RayRandomness:
    """Deterministic values for evaluation: the middle of every cell and evenly spaced quantiles."""
    expect_floating("like", like)
    for name, number in (("batch", batch), ("count", count), ("coarse", coarse), ("fine", fine)):
        if number < 0:
            raise ValueError(f"{name}: expected 0 or more, got {number}")
    middle = like.new_full((1, 1, 1), 0.5).expand(batch, count, coarse)
    quantiles = (torch.arange(fine, dtype=like.dtype, device=like.device) + 0.5) / max(fine, 1)
    return RayRandomness(middle, quantiles.expand(batch, count, fine))


def _cut_densities(samples: tuple[Tensor, ...], settings: RaySettings) -> tuple[Tensor, ...]:
    """Samples; those whose raw density is below the `cut_quantile` of their image, or of the batch, are empty."""
    densities = torch.cat([s[..., -1].flatten(1) for s in samples], dim=1)
    ranked = (densities.reshape(1, -1) if settings.cut_batch else densities).sort(dim=1).values
    if not ranked.numel():
        return samples
    # torch.quantile supports at most 2^24 values.
    threshold = ranked[:, min(int(settings.cut_quantile * ranked.shape[1]), ranked.shape[1] - 1), None, None]

    def cut(values: Tensor) -> Tensor:
        raw = torch.where(values[..., -1] < threshold, EMPTY_RAW_DENSITY, values[..., -1])
        return torch.cat([values[..., :-1], raw[..., None]], dim=-1)

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
    """Distances `[B, R, S]` and samples `[B, R, S, 4]` of both passes, not yet merged.

    Samples of the coarse pass are used twice: for the distribution of the fine pass, and in the union. Arguments as in
    `render_rays`, which checks them.
    """
    u_coarse, u, noise, fine_noise = (None if x is None else x.detach() for x in randomness)
    distances = stratified_distances(u_coarse, settings.near, settings.far)
    samples, fine, fine_samples = field_passes(
        Scene(planes, decoder, origins, directions, settings.half_width, settings.contraction),
        distances,
        noise,
        u if u.shape[-1] else None,
        fine_noise,
        density_bias=settings.density_bias,
        max_optical_depth=OPAQUE_DEPTH if stop_when_opaque else 0.0,
        backend=field_backend(backend, planes, decoder, distances),
    )
    if fine is None:
        return (distances,), (samples,)
    return (distances, fine), (samples, fine_samples)


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
    """Color and depth of rays: a stratified coarse pass, a fine pass where it found density, and the union of both.

    Args:
        planes: `[B, 3, H, W, C]`.
        decoder: effective weights of the field's decoder.
        origins, directions: `[B, R, 3]`.
        randomness: random numbers of both passes.
        settings: bounds of the rays and options.
        chunk: rays of each image that are rendered at once, to limit memory at inference; None = all.
        stop_when_opaque: for inference without gradients: leave out samples of the coarse pass that at most 0.01 % of
            the light reaches, by the coarse pass's own densities. Has no effect with backend `torch`, with
            `cut_quantile` (which needs all densities) and with `midpoint` (whose intervals need both ends).
        backend: see `Backend`.

    Returns:
        the composite of S_c + S_f samples of each ray. Differentiable in planes, decoder, origins and directions;
        distances carry no gradient.
    """
    check_planes(planes)
    coarse, fine, coarse_noise, fine_noise = randomness
    expect_shape("randomness.coarse", coarse, (planes.shape[0], "R", "S_c"))
    check_field(planes, decoder, origins, directions, coarse, settings.half_width, like_name="randomness.coarse")
    check_noise("randomness.coarse_noise", coarse_noise, coarse, "randomness.coarse")
    expect_shape("randomness.fine", fine, (*coarse.shape[:2], "S_f"))
    expect_like("randomness.fine", fine, coarse, "randomness.coarse")
    check_noise("randomness.fine_noise", fine_noise, fine, "randomness.fine")
    if fine.shape[-1] and coarse.shape[-1] < 2:
        raise ValueError(
            f"randomness.coarse: expected [B, R, S_c] with at least 2 samples, got {list(coarse.shape)}; "
            "to render the coarse pass alone, set randomness.fine to shape [B, R, 0]"
        )
    expect_interval(settings.near, settings.far)
    if not 0 <= settings.cut_quantile <= 1:
        raise ValueError(f"cut_quantile: expected a number from 0 to 1, got {settings.cut_quantile}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk: expected at least 1 ray, or None, got {chunk}")
    if (
        stop_when_opaque
        and torch.is_grad_enabled()
        and any(x.requires_grad for x in (planes, *decoder, origins, directions))
    ):
        raise ValueError("stop_when_opaque: samples that are left out have no gradient; render under torch.no_grad()")
    stop = stop_when_opaque and not settings.cut_quantile and not settings.midpoint
    sample = partial(sample_rays, planes, decoder, settings=settings, stop_when_opaque=stop, backend=backend)
    composite_samples = partial(composite, **composite_options(settings), backend=backend)
    return render_in_chunks(sample, composite_samples, origins, directions, randomness, settings, chunk)


Sets = tuple[Tensor, ...]
"""A tensor for each pass."""


def render_in_chunks(
    sample: Callable[[Tensor, Tensor, RayRandomness], tuple[Sets, Sets]],
    composite_samples: Callable[[Sets, Sets], Composite],
    origins: Tensor,
    directions: Tensor,
    randomness: RayRandomness,
    settings: RaySettings,
    chunk: int | None,
) -> Composite:
    """The composite of rays `[B, R, 3]`, of which `chunk` of each image are sampled at once; None = all.

    `sample` returns distances and samples of both passes, as `sample_rays`; `composite_samples` takes samples and
    distances.
    """
    pieces = []
    count = max(origins.shape[1], 1)  # no rays make one empty piece
    for start in range(0, count, chunk or count):
        part = slice(start, start + chunk if chunk else None)
        numbers = RayRandomness(*(None if x is None else x[:, part] for x in randomness))
        distances, samples = sample(origins[:, part], directions[:, part], numbers)
        # A quantile needs all samples of the image; otherwise the samples of a chunk are composited right away.
        pieces.append((samples, distances) if settings.cut_quantile else composite_samples(samples, distances))
    if settings.cut_quantile:
        samples, distances = (
            tuple(torch.cat(x, dim=1) for x in zip(*s, strict=True)) for s in zip(*pieces, strict=True)
        )
        return composite_samples(_cut_densities(samples, settings), distances)
    return pieces[0] if len(pieces) == 1 else Composite(*(torch.cat(x, dim=1) for x in zip(*pieces, strict=True)))

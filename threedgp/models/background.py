"""Backgrounds: what is seen behind the foreground of scenes; that of tri-plane scenes has planes of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from threedgp.render import Composite, Decoder, RaySettings, composite, field_along_rays
from threedgp.render.sampling import stratified_inverse_distances


def add_background(
    front: Composite,
    background: Callable[[Tensor, Tensor, Tensor], Tensor],
    inputs: tuple[Tensor, Tensor, Tensor],
    far: float,
    chunk: int | None,
) -> tuple[Tensor, Tensor]:
    """Color `[B, R, C]` and depth `[B, R]` of a foreground and the background behind it, whose depth counts as `far`.

    `background` returns colors, given `inputs`: origins and directions `[B, R, 3]` of rays, and uniform numbers `[B, R,
    S]`. It gets `chunk` rays of each image at once; None = all.
    """
    parts = zip(*(x.split(chunk or x.shape[1], dim=1) for x in inputs), strict=True)
    behind = torch.cat([background(*part) for part in parts], dim=1)
    through = front.transmittance
    return front.rgb + through[..., None] * behind, front.depth + through * far


def background_colors(
    planes: Tensor, decoder: Decoder, origins: Tensor, directions: Tensor, u: Tensor, settings: RaySettings
) -> Tensor:
    """Color `[B, R, 3]` of the background along rays `[B, R, 3]`, given uniform numbers `u` `[B, R, S]`.

    The planes `[B, 3, H, W, C]` cover space contracted to radius 2 half-widths. The last sample is opaque.
    """
    with torch.no_grad():
        inverse = stratified_inverse_distances(u)
        distances = background_distances(origins, directions, inverse, settings)
    samples = field_along_rays(
        planes, decoder, origins, directions, distances, half_width=settings.half_width, contraction=True
    )
    return composite(samples, 1 - inverse).rgb


def background_distances(origins: Tensor, directions: Tensor, inverse: Tensor, settings: RaySettings) -> Tensor:
    """Distances `[B, R, S]` along rays at which the inverse of the distance from the origin is `inverse` `[B, R, S]`
    times that of the first point of the background (Zhang et al. 2020, NeRF++, section 4).

    This point is where the ray leaves the sphere with the radius `settings.half_width`, but not before `settings.far`.
    If the background began at the end of the rays, it would be another part of space for each camera, and change with
    the view.
    """
    closest = -(origins * directions).sum(-1)  # distance along the ray to the point that is closest to the origin
    offset = origins.square().sum(-1) - closest.square()  # squared distance of that point from the origin
    half_chord = (settings.half_width**2 - offset).clamp(min=0).sqrt()
    first = torch.maximum(half_chord, settings.far - closest)
    radius = (offset + first.square()).sqrt()[..., None] / inverse
    return closest[..., None] + (radius.square() - offset[..., None]).clamp(min=0).sqrt()

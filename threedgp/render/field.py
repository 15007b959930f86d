"""The tri-plane field: features of three planes at points along rays, decoded to colour and raw density."""

from __future__ import annotations

import torch
from torch import Tensor

from threedgp.render.arguments import check_field, check_noise, check_planes, expect_shape
from threedgp.render.engines import Backend, field_engine, own_precision
from threedgp.render.field_operators import field
from threedgp.render.field_reference import (
    EMPTY_RAW_DENSITY,
    Decoder,
    decode,
    field_reference,
    plane_features,
)

__all__ = [
    "EMPTY_RAW_DENSITY",
    "Decoder",
    "decode",
    "field_along_rays",
    "field_at_points",
    "plane_features",
]


def field_along_rays(
    planes: Tensor,
    decoder: Decoder,
    origins: Tensor,
    directions: Tensor,
    distances: Tensor,
    *,
    half_width: float,
    noise: Tensor | None = None,
    contraction: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    """The field at ``origin + distance * direction``.

    Args:
        planes: `[B, 3, H, W, C]`, any strides; a unit stride in C (a backbone's channels-last output) needs no copy.
        decoder: effective weights.
        origins, directions: `[B, R, 3]` in scene units; gradients reach the camera through them alone.
        distances: `[B, R, S]`; no gradient.
        half_width: of the cube that the planes cover.
        noise: `[B, R, S]`, added to raw density; no gradient.
        contraction: the planes cover all of space, contracted to radius 2 half-widths, instead of the cube alone.
        backend: see `Backend`. All but `torch` are differentiable once.

    Returns:
        rgb and raw density, `[B, R, S, 4]`, in the dtype of the distances.

    Raises:
        ValueError: naming the argument whose shape, dtype or device is wrong.
    """
    check_field(planes, decoder, origins, directions, distances, half_width)
    check_noise("noise", noise, distances)
    name = field_engine(backend, planes, decoder, distances)
    distances, noise = distances.detach(), None if noise is None else noise.detach()
    if name == "torch":
        with own_precision(planes.device):
            return field_reference(planes, decoder, origins, directions, distances, noise, half_width, contraction)
    rays = (x.contiguous() for x in (*decoder, origins, directions, distances))
    noise = None if noise is None else noise.contiguous()
    return field(planes, *rays, noise, half_width, contraction, 0.0, 0.0, name)


def field_at_points(
    planes: Tensor,
    decoder: Decoder,
    points: Tensor,
    *,
    half_width: float,
    contraction: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    """The field at points `[B, N, 3]`: rgb and raw density, `[B, N, 4]`. Other arguments as in `field_along_rays`.

    Raises:
        ValueError: naming the argument whose shape, dtype or device is wrong.
    """
    check_planes(planes)
    expect_shape("points", points, (planes.shape[0], "N", 3))
    check_field(planes, decoder, points, points, points, half_width, like_name="points")
    nowhere = torch.zeros_like(points)
    distances = points.new_zeros((*points.shape[:2], 1))
    out = field_along_rays(
        *(planes, decoder, points, nowhere, distances),
        half_width=half_width,
        contraction=contraction,
        backend=backend,
    )
    return out[:, :, 0]

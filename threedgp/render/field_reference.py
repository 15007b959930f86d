"""The field in plain PyTorch: the definition that every faster engine is held against.

Differentiable in everything, any number of times, in any floating dtype.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.render.contraction import contract

PLANE_AXES = ((0, 1), (0, 2), (1, 2))
"""Planes xy, xz, yz: (horizontal, vertical) axis of each."""

LEAKY_SLOPE = 0.2
LEAKY_GAIN = 2**0.5

EMPTY_RAW_DENSITY = -100.0
"""Its softplus is 0 in float32 for every interval but the infinite one."""


class Decoder(NamedTuple):
    """Effective weights of the field's two-layer decoder: C features, H hidden, 4 outputs (rgb, raw density)."""

    weight_1: Tensor
    """`[H, C]`"""
    bias_1: Tensor
    """`[H]`"""
    weight_2: Tensor
    """`[4, H]`"""
    bias_2: Tensor
    """`[4]`"""


def plane_coordinates(points: Tensor, half_width: float, contraction: bool) -> Tensor:
    """Coordinates on the planes, [-1, 1] inside, of points `[..., 3]` in scene units."""
    scaled = points / half_width
    return contract(scaled) / 2 if contraction else scaled


def texels(coordinates: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Indices (clamped) and weights (0 beyond the border) of the two texels around each coordinate in [-1, 1]."""
    position = (coordinates + 1) * ((size - 1) / 2)
    # Far outside, the index would leave the range of int64; both texels are beyond the border there anyway.
    floor = position.detach().floor().clamp(-2, size)
    fraction = position - floor
    index = floor.long()
    index = torch.stack([index, index + 1], dim=-1)
    weight = torch.stack([1 - fraction, fraction], dim=-1)
    inside = (index >= 0) & (index < size)
    return index.clamp(0, size - 1), torch.where(inside, weight, torch.zeros_like(weight))


def plane_features(planes: Tensor, points: Tensor, half_width: float, *, contraction: bool = False) -> Tensor:
    """Mean of the bilinear features of three planes.

    Args:
        planes: `[B, 3, H, W, C]`, planes xy, xz, yz; corners aligned with the faces of the cube.
        points: `[B, N, 3]` in scene units; features fade to zero within a texel beyond the cube.
        half_width: of the cube.
        contraction: the planes cover all of space, contracted to radius 2, instead of the cube alone.

    Returns:
        `[B, N, C]` in the dtype of `points`.

    A gather of weighted rows: `embedding_bag` reads each texel's C channels at once and sums the twelve of a point
    without writing them out, forward and backward, where `grid_sample` walks over channels.
    """
    batch, _, height, width, channels = planes.shape
    count = points.shape[1]
    rows, weights = [], []
    base = torch.arange(batch * 3, device=planes.device).reshape(batch, 3, 1, 1, 1) * (height * width)
    coordinates = plane_coordinates(points, half_width, contraction)
    for plane, (across, up) in enumerate(PLANE_AXES):
        column, column_weight = texels(coordinates[..., across], width)
        row, row_weight = texels(coordinates[..., up], height)
        rows.append(base[:, plane] + row[..., :, None] * width + column[..., None, :])
        weights.append(row_weight[..., :, None] * column_weight[..., None, :])
    index = torch.stack(rows, dim=2).reshape(batch * count, 12)
    weight = torch.stack(weights, dim=2).reshape(batch * count, 12) / 3
    table = planes.reshape(batch * 3 * height * width, channels).to(points.dtype)
    features = F.embedding_bag(index, table, per_sample_weights=weight, mode="sum")
    return features.reshape(batch, count, channels)


def decode(features: Tensor, decoder: Decoder) -> Tensor:
    """Colour and raw density `[..., 4]` of features `[..., C]`: linear, leaky ReLU (0.2, gain sqrt 2), linear."""
    hidden = F.leaky_relu(F.linear(features, decoder.weight_1, decoder.bias_1), LEAKY_SLOPE) * LEAKY_GAIN
    return F.linear(hidden, decoder.weight_2, decoder.bias_2)


def field_reference(
    planes: Tensor,
    decoder: Decoder,
    origins: Tensor,
    directions: Tensor,
    distances: Tensor,
    noise: Tensor | None,
    half_width: float,
    contraction: bool,
) -> Tensor:
    """The field along rays `[B, R, S, 4]`; arguments as in `field_along_rays`."""
    points = origins[:, :, None] + distances[..., None] * directions[:, :, None]
    features = plane_features(planes, points.flatten(1, 2), half_width, contraction=contraction)
    samples = decode(features, decoder).reshape(*distances.shape, 4)
    if noise is None:
        return samples
    return torch.cat([samples[..., :3], samples[..., 3:] + noise[..., None]], dim=-1)

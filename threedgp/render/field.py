"""The tri-plane field: features of three planes at points along rays, decoded to colour and raw density."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

PLANE_AXES = ((0, 1), (0, 2), (1, 2))
"""Planes xy, xz, yz: (horizontal, vertical) axis of each."""

LEAKY_SLOPE = 0.2
LEAKY_GAIN = 2**0.5


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


def _check(planes: Tensor, decoder: Decoder, points: Tensor) -> None:
    if planes.ndim != 5 or planes.shape[1] != 3:
        raise ValueError(f"planes: expected [B, 3, H, W, C], got {list(planes.shape)}")
    if points.shape[0] != planes.shape[0] or points.shape[-1] != 3:
        raise ValueError(f"points: expected [{planes.shape[0]}, ..., 3], got {list(points.shape)}")
    if decoder.weight_1.shape[1] != planes.shape[-1]:
        raise ValueError(f"decoder: takes {decoder.weight_1.shape[1]} features, planes have {planes.shape[-1]}")


def _texels(coordinates: Tensor, size: int) -> tuple[Tensor, Tensor]:
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


def plane_features(planes: Tensor, points: Tensor, half_width: float) -> Tensor:
    """Mean of the bilinear features of three planes.

    Args:
        planes: `[B, 3, H, W, C]`, planes xy, xz, yz; corners aligned with the faces of the cube.
        points: `[B, N, 3]` in scene units; features fade to zero within a texel beyond the cube.
        half_width: of the cube.

    Returns:
        `[B, N, C]`.

    A gather of weighted rows: `embedding_bag` reads each texel's C channels at once and sums the twelve of a point
    without writing them out, forward and backward, where `grid_sample` walks over channels.
    """
    batch, _, height, width, channels = planes.shape
    count = points.shape[1]
    rows, weights = [], []
    base = torch.arange(batch * 3, device=planes.device).reshape(batch, 3, 1, 1, 1) * (height * width)
    scaled = points / half_width
    for plane, (across, up) in enumerate(PLANE_AXES):
        column, column_weight = _texels(scaled[..., across], width)
        row, row_weight = _texels(scaled[..., up], height)
        rows.append(base[:, plane] + row[..., :, None] * width + column[..., None, :])
        weights.append(row_weight[..., :, None] * column_weight[..., None, :])
    index = torch.stack(rows, dim=2).reshape(batch * count, 12)
    weight = torch.stack(weights, dim=2).reshape(batch * count, 12) / 3
    table = planes.reshape(batch * 3 * height * width, channels)
    features = F.embedding_bag(index, table, per_sample_weights=weight.to(table.dtype), mode="sum")
    return features.reshape(batch, count, channels)


def decode(features: Tensor, decoder: Decoder) -> Tensor:
    """Colour and raw density `[..., 4]` of features `[..., C]`: linear, leaky ReLU (0.2, gain sqrt 2), linear."""
    hidden = F.leaky_relu(F.linear(features, decoder.weight_1, decoder.bias_1), LEAKY_SLOPE) * LEAKY_GAIN
    return F.linear(hidden, decoder.weight_2, decoder.bias_2)


def field_at_points(planes: Tensor, decoder: Decoder, points: Tensor, *, half_width: float) -> Tensor:
    """The field at points `[B, N, 3]`: rgb and raw density, `[B, N, 4]`. Differentiable in everything.

    Raises:
        ValueError: naming the argument whose shape is wrong.
    """
    _check(planes, decoder, points)
    return decode(plane_features(planes, points, half_width), decoder)


def field_along_rays(
    planes: Tensor, decoder: Decoder, origins: Tensor, directions: Tensor, distances: Tensor, *, half_width: float
) -> Tensor:
    """The field at ``origin + distance * direction``.

    Args:
        planes: `[B, 3, H, W, C]`.
        decoder: effective weights.
        origins, directions: `[B, R, 3]` in scene units; gradients reach the camera through them alone.
        distances: `[B, R, S]`; no gradient.
        half_width: of the cube that the planes cover.

    Returns:
        rgb and raw density, `[B, R, S, 4]`.
    """
    points = origins[:, :, None] + distances[..., None] * directions[:, :, None]
    samples = field_at_points(planes, decoder, points.flatten(1, 2), half_width=half_width)
    return samples.reshape(*distances.shape, 4)

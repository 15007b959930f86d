"""The field for CPUs in PyTorch: blocks of samples whose features never leave the cache.

The plain composition writes out features, hidden units and their gradients for all samples. Here a block of samples
goes all the way, and the backward pass gathers and decodes it again. Bilinear sampling is `embedding_bag` over the
planes as they lie in memory; its gradient is `scatter_add_` of rows, which sums in a fixed order.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.render.field_gradients import (
    FieldGradients,
    Needs,
    addressable,
    empty_gradients,
    texel_strides,
    zeros_like_planes,
)
from threedgp.render.field_reference import (
    EMPTY_RAW_DENSITY,
    LEAKY_GAIN,
    LEAKY_SLOPE,
    PLANE_AXES,
    Decoder,
    plane_coordinates,
)

BLOCK_FLOATS = 1 << 15
"""Features of a block; with 12 rows of gradient to each, about 1.5 MB, which a core's cache holds."""

STOPPING_SAMPLES = 8
"""Samples of a ray between two looks at whether it is opaque."""


class _Table(NamedTuple):
    """Planes as a table of texels."""

    rows: Tensor
    """`[N, C]`, a view."""
    image: int
    offsets: Tensor
    """`[3]`, of the planes."""
    row: int
    column: int


def _table(planes: Tensor) -> _Table:
    strides = texel_strides(planes)
    span = 1 + sum((size - 1) * stride for size, stride in zip(planes.shape[:4], strides, strict=True))
    rows = planes.as_strided((span, planes.shape[-1]), (planes.shape[-1], 1))
    offsets = torch.arange(3, device=planes.device) * strides.plane
    return _Table(rows, strides.image, offsets, strides.row, strides.column)


def _around(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Index (clamped), weight and derivative of the weight of the two texels around positions, `[..., 2]` each."""
    floor = position.floor().clamp_(-2, size)
    fraction = position - floor
    index = torch.stack([floor, floor + 1], dim=-1)
    inside = (index >= 0) & (index <= size - 1)
    weight = torch.stack([1 - fraction, fraction], dim=-1) * inside
    slope = inside * inside.new_tensor([-1, 1], dtype=position.dtype)
    return index.clamp_(0, size - 1).long(), weight, slope


class _Interpolation(NamedTuple):
    """How samples read the planes: their texels `[M, 3 planes, 2 rows, 2 columns]` and weights along both axes."""

    index: Tensor
    row_weight: Tensor
    column_weight: Tensor
    row_slope: Tensor
    column_slope: Tensor


def _interpolate(table: _Table, shape: torch.Size, coordinates: Tensor, images: Tensor) -> _Interpolation:
    height, width = shape[2:4]
    across, up = ([axes[k] for axes in PLANE_AXES] for k in (0, 1))
    column, column_weight, column_slope = _around((coordinates[:, across] + 1) * ((width - 1) / 2), width)
    row, row_weight, row_slope = _around((coordinates[:, up] + 1) * ((height - 1) / 2), height)
    base = (images * table.image)[:, None] + table.offsets
    index = (base[..., None] + row * table.row)[..., None] + (column * table.column)[..., None, :]
    return _Interpolation(
        index,
        row_weight[..., None],
        column_weight[..., None, :],
        row_slope[..., None] * ((height - 1) / 2),
        column_slope[..., None, :] * ((width - 1) / 2),
    )


def _bag(table: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    return F.embedding_bag(index.flatten(1), table, per_sample_weights=weights.flatten(1), mode="sum")


def _slopes(table: Tensor, at: _Interpolation) -> tuple[Tensor, Tensor, Tensor]:
    """Derivatives of the sum over planes by the three coordinates, `[M, C]` each."""
    along_columns, along_rows = at.row_weight * at.column_slope, at.row_slope * at.column_weight
    y_index, y_weights = at.index[:, 0::2], torch.stack([along_rows[:, 0], along_columns[:, 2]], dim=1)
    return (
        _bag(table, at.index[:, :2], along_columns[:, :2]),
        _bag(table, y_index, y_weights),
        _bag(table, at.index[:, 1:], along_rows[:, 1:]),
    )


class _Block(NamedTuple):
    """Some rays of the flattened batch."""

    rays: slice
    images: Tensor
    """`[M]`, image of each sample."""


def _blocks(batch: int, rays: int, samples: int, channels: int) -> list[_Block]:
    size = max(BLOCK_FLOATS // channels // max(samples, 1), 1)
    images = torch.arange(batch).repeat_interleave(rays)
    starts = range(0, batch * rays, size)
    return [_Block(slice(s, s + size), images[s : s + size].repeat_interleave(samples)) for s in starts]


def _points(origins: Tensor, directions: Tensor, distances: Tensor) -> Tensor:
    return (origins[:, None] + distances[..., None] * directions[:, None]).flatten(0, 1)


def field_forward(
    planes: Tensor,
    decoder: Decoder,
    origins: Tensor,
    directions: Tensor,
    distances: Tensor,
    noise: Tensor | None,
    half_width: float,
    contraction: bool,
    opaque_depth: float = 0.0,
) -> Tensor:
    """rgb and raw density `[B, R, S, 4]`; `opaque_depth` > 0: samples behind that depth stay empty."""
    planes = addressable(planes.to(distances.dtype))
    table = _table(planes)
    batch, rays, samples = distances.shape
    out = distances.new_empty(batch * rays, samples, 4)
    origins, directions, along = origins.flatten(0, 1), directions.flatten(0, 1), distances.flatten(0, 1)

    def evaluate(points: Tensor, images: Tensor) -> Tensor:
        at = _interpolate(table, planes.shape, plane_coordinates(points, half_width, contraction), images)
        features = _bag(table.rows, at.index, at.row_weight * at.column_weight).div_(3)
        hidden = F.leaky_relu_(torch.addmm(decoder.bias_1, features, decoder.weight_1.t()), LEAKY_SLOPE)
        return torch.addmm(decoder.bias_2, hidden.mul_(LEAKY_GAIN), decoder.weight_2.t())

    if opaque_depth > 0:
        images = torch.arange(batch).repeat_interleave(rays)
        gathered = along.new_zeros(batch * rays)
        out[..., :3], out[..., 3] = 0, EMPTY_RAW_DENSITY
        for first in range(0, samples, STOPPING_SAMPLES):
            last = min(first + STOPPING_SAMPLES, samples)
            for alive in (gathered < opaque_depth).nonzero()[:, 0].split(BLOCK_FLOATS // planes.shape[-1] // 8 + 1):
                t = along[alive, first:last]
                points = _points(origins[alive], directions[alive], t)
                values = evaluate(points, images[alive].repeat_interleave(last - first)).unflatten(0, t.shape)
                out[alive, first:last] = values
                ends = along[alive, first + 1 : last + 1]
                density = F.softplus(values[:, : ends.shape[1], 3])
                gathered[alive] += (density * (ends - t[:, : ends.shape[1]])).sum(1)
    else:
        for block, images in _blocks(batch, rays, samples, planes.shape[-1]):
            points = _points(origins[block], directions[block], along[block])
            out[block] = evaluate(points, images).view(-1, samples, 4)
    if noise is not None:
        out[..., 3] += noise.flatten(0, 1)
    return out.view(batch, rays, samples, 4)


def _backward_of_coordinates(points: Tensor, gradient: Tensor, half_width: float, contraction: bool) -> Tensor:
    """Gradient of points, given that of their coordinates on the planes. By hand: operators run below autograd."""
    if contraction:
        scaled = points / half_width
        norm = scaled.square().sum(-1, keepdim=True).clamp_(min=1).sqrt_()
        inverse = 1 / norm
        # The factor on the position, and its derivative by the radius over the radius (0 inside the unit ball).
        factor = 0.5 * (2 - inverse) * inverse
        slope = torch.where(norm > 1, (inverse - 1) * inverse**3, 0.0)
        radial = (scaled * gradient).sum(-1, keepdim=True)
        gradient = factor * gradient + slope * radial * scaled
    return gradient / half_width


def field_backward(
    planes: Tensor,
    decoder: Decoder,
    origins: Tensor,
    directions: Tensor,
    distances: list[Tensor],
    gradients: list[Tensor],
    half_width: float,
    contraction: bool,
    needs: Needs,
) -> FieldGradients:
    """Gradients of the field at several sets of distances together, so that planes are zeroed and summed once."""
    result = empty_gradients(planes, decoder, origins)
    dtype = origins.dtype
    grad_planes = zeros_like_planes(planes, dtype) if needs.planes else planes
    grad_table = _table(grad_planes) if needs.planes else None
    planes = addressable(planes.to(dtype))
    table = _table(planes)
    same_layout = grad_table is not None and grad_planes.stride() == planes.stride()
    grad_decoder = Decoder(*(torch.zeros_like(w) for w in decoder))
    batch, rays, channels = *origins.shape[:2], planes.shape[-1]
    grad_origins, grad_directions = (origins.new_zeros(batch * rays, 3) for _ in range(2))
    origins, directions = origins.flatten(0, 1), directions.flatten(0, 1)
    for at_distances, gradient in zip(distances, gradients, strict=True):
        samples = at_distances.shape[-1]
        along, grad_samples = at_distances.flatten(0, 1), gradient.reshape(batch * rays, samples, 4)
        for block, images in _blocks(batch, rays, samples, channels):
            t = along[block]
            points = _points(origins[block], directions[block], t)
            coordinates = plane_coordinates(points, half_width, contraction)
            at = _interpolate(table, planes.shape, coordinates, images)
            weights = at.row_weight * at.column_weight
            features = _bag(table.rows, at.index, weights).div_(3)
            pre = torch.addmm(decoder.bias_1, features, decoder.weight_1.t())
            grad_out = grad_samples[block].flatten(0, 1)
            grad_pre = (grad_out @ decoder.weight_2).mul_(LEAKY_GAIN)
            grad_pre = torch.ops.aten.leaky_relu_backward(grad_pre, pre, LEAKY_SLOPE, False)
            if needs.decoder:
                grad_decoder.weight_1.addmm_(grad_pre.t(), features)
                grad_decoder.bias_1.add_(grad_pre.sum(0))
                grad_decoder.weight_2.addmm_(grad_out.t(), F.leaky_relu_(pre, LEAKY_SLOPE), alpha=LEAKY_GAIN)
                grad_decoder.bias_2.add_(grad_out.sum(0))
            if not (needs.planes or needs.rays):
                continue
            grad_features = (grad_pre @ decoder.weight_1).div_(3)
            if needs.rays:
                slopes = _slopes(table.rows, at)
                grad_coordinates = torch.stack([(grad_features * s).sum(1) for s in slopes], dim=1)
                grad_points = _backward_of_coordinates(points, grad_coordinates, half_width, contraction)
                grad_points = grad_points.view(-1, samples, 3)
                grad_origins[block] += grad_points.sum(1)
                grad_directions[block] += (grad_points * t[..., None]).sum(1)
            if grad_table is not None:
                index = at.index
                if not same_layout:
                    index = _interpolate(grad_table, planes.shape, coordinates, images).index
                rows = weights.flatten(1)[..., None] * grad_features[:, None]
                grad_table.rows.scatter_add_(0, index.reshape(-1, 1).expand(-1, channels), rows.flatten(0, 1))
    if needs.planes:
        result = result._replace(planes=grad_planes)
    if needs.decoder:
        result = result._replace(decoder=grad_decoder)
    if needs.rays:
        result = result._replace(
            origins=grad_origins.view(batch, rays, 3), directions=grad_directions.view(batch, rays, 3)
        )
    return result

"""Planes as a table of texels, a row each: bilinear sampling by weighted rows, for planes larger than the cache.

A texel's channels lie together in memory, so that a sample reads and adds to twelve short rows, where `grid_sample`
walks over the channels of planes of their own. `scatter_add_` sorts rows first, and so adds in a fixed order.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from threedgp.render.field_reference import PLANE_AXES
from threedgp.render.plane_layout import TexelStrides, addressable, texel_strides

ACROSS, UP = ([axes[k] for axes in PLANE_AXES] for k in (0, 1))


class _Corners(NamedTuple):
    """The two texels around each position, along one axis of the three planes: `[3, 2, G, N]` each."""

    index: Tensor
    """Clamped to the plane."""
    weight: Tensor
    """Zero beyond the border."""
    inside: Tensor


def _corners(coordinates: Tensor, size: int) -> _Corners:
    position = ((coordinates + 1) * ((size - 1) / 2)).clamp_(-2, size)  # there, both are outside
    floor = position.floor()
    fraction = position.sub_(floor)
    corner = torch.stack([floor, floor + 1], dim=1)
    clamped = corner.clamp(0, size - 1)
    inside = clamped == corner
    return _Corners(clamped.long(), torch.stack([1 - fraction, fraction], dim=1).mul_(inside), inside)


def _table(planes: Tensor) -> tuple[Tensor, TexelStrides]:
    """Rows `[N, C]`, a view of addressable planes, and their strides."""
    strides = texel_strides(planes)
    span = 1 + sum((size - 1) * stride for size, stride in zip(planes.shape[:4], strides, strict=True))
    return planes.as_strided((span, planes.shape[-1]), (planes.shape[-1], 1)), strides


class TexelRows:
    """Samples planes, and adds up their gradient."""

    def __init__(self, planes: Tensor, gradient: Tensor | None = None) -> None:
        """Take planes `[B, 3, H, W, C]` and, if it is wanted, where their gradient is added (addressable)."""
        self.height, self.width = planes.shape[2:4]
        self.rows, self.strides = _table(addressable(planes))
        self.grad_rows, self.grad_strides = (None, self.strides) if gradient is None else _table(gradient)

    def sample(self, images: slice, coordinates: Tensor) -> TexelSamples:
        """Samples at coordinates `[3, G, N]` on the planes of G images."""
        return TexelSamples(self, images, coordinates)


class TexelSamples:
    """Some samples and how they read the planes."""

    def __init__(self, table: TexelRows, images: slice, coordinates: Tensor) -> None:
        self._table, self._images = table, images
        self._column = _corners(coordinates[ACROSS], table.width)
        self._row = _corners(coordinates[UP], table.height)
        self._rows = self._rows_of(table.strides)
        weights = self._row.weight[:, :, None] * self._column.weight[:, None]
        self._weights = weights.view(12, -1).t().contiguous()

    def _rows_of(self, strides: TexelStrides) -> Tensor:
        """`[M, 12]`: planes, rows, columns."""
        images = torch.arange(self._images.start, self._images.stop)[:, None] * strides.image
        planes = torch.arange(3)[:, None, None, None] * strides.plane
        row = (self._row.index * strides.row).add_(planes + images)
        return (row[:, :, None] + (self._column.index * strides.column)[:, None]).view(12, -1).t().contiguous()

    def features(self) -> Tensor:
        """Sums over the three planes, `[M, C]`, M = G N."""
        bags = torch.arange(0, self._rows.numel(), 12)
        return torch.embedding_bag(
            self._table.rows, self._rows.view(-1), bags, False, 0, False, self._weights.view(-1)
        )[0]

    def backward(self, gradient: Tensor, *, planes: bool, coordinates: bool) -> Tensor | None:
        """Given the gradient of the features `[M, C]`, add to that of the planes; that of the coordinates, `[3, M]`."""
        to_coordinates = self._to_coordinates(gradient) if coordinates else None
        if planes:
            table, channels = self._table, gradient.shape[1]
            rows = self._rows if table.grad_strides == table.strides else self._rows_of(table.grad_strides)
            values = self._weights[..., None] * gradient[:, None]
            table.grad_rows.scatter_add_(0, rows.view(-1, 1).expand(-1, channels), values.view(-1, channels))
        return to_coordinates

    def _to_coordinates(self, gradient: Tensor) -> Tensor:
        table = self._table
        texels = table.rows.index_select(0, self._rows.view(-1)).view(-1, 12, gradient.shape[1])
        towards = (
            (texels @ gradient[..., None]).view(-1, 12).t().contiguous().view(3, 2, 2, *self._row.inside.shape[2:])
        )
        low, high = (towards * self._column.inside[:, None]).unbind(2)
        across = ((high - low) * self._row.weight).sum(1).mul_((table.width - 1) / 2)
        low, high = (towards * self._row.inside[:, :, None]).unbind(1)
        up = ((high - low) * self._column.weight).sum(1).mul_((table.height - 1) / 2)
        return torch.stack([across[0] + across[1], up[0] + across[2], up[1] + up[2]]).flatten(1)

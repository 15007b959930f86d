"""Planes as pictures: bilinear sampling by `grid_sample`, for planes that the cache holds.

There it is faster than weighted rows: it computes indices in registers, and a walk over channels costs nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from threedgp.render.texel_rows import ACROSS, UP

_MODE = (0, 0, True)
"""Bilinear, zeros beyond the border, corners aligned."""


class PlaneGrids:
    """Samples planes, and adds up their gradient."""

    def __init__(self, planes: Tensor, gradient: Tensor | None = None) -> None:
        """Take planes `[B, 3, H, W, C]` and, if it is wanted, where their gradient is added."""
        self.planes = planes.permute(0, 1, 4, 2, 3).contiguous()
        self.gradient = None if gradient is None else gradient.permute(0, 1, 4, 2, 3)

    def sample(self, images: slice, coordinates: Tensor) -> GridSamples:
        """Samples at coordinates `[3, G, N]` on the planes of G images."""
        return GridSamples(self, images, coordinates)


class GridSamples:
    """Some samples and how they read the planes."""

    def __init__(self, grids: PlaneGrids, images: slice, coordinates: Tensor) -> None:
        self._grids, self._images = grids, images
        self._planes = grids.planes[images].flatten(0, 1)
        along = coordinates.transpose(0, 1)
        self._grid = torch.stack([along[:, ACROSS], along[:, UP]], dim=-1).flatten(0, 1)[:, None]

    def features(self) -> Tensor:
        """Sums over the three planes, `[M, C]`, M = G N."""
        each = torch.ops.aten.grid_sampler_2d(self._planes, self._grid, *_MODE)
        channels = each.shape[1]
        return each.view(-1, 3, channels, each.shape[-1]).sum(1).transpose(1, 2).reshape(-1, channels)

    def backward(self, gradient: Tensor, *, planes: bool, coordinates: bool) -> Tensor | None:
        """Given the gradient of the features `[M, C]`, add to that of the planes; that of the coordinates, `[3, M]`."""
        count, channels = self._grid.shape[2], gradient.shape[1]
        each = gradient.view(-1, 1, count, channels).transpose(2, 3).expand(-1, 3, -1, -1).flatten(0, 1)
        to_planes, to_grid = torch.ops.aten.grid_sampler_2d_backward(
            each[:, :, None], self._planes, self._grid, *_MODE, [planes, coordinates]
        )
        if planes:
            into = self._grids.gradient[self._images]
            into.add_(to_planes.view_as(into))
        if not coordinates:
            return None
        across, up = to_grid.view(-1, 3, count, 2).unbind(-1)
        summed = [across[:, 0] + across[:, 1], up[:, 0] + across[:, 2], up[:, 1] + up[:, 2]]
        return torch.stack(summed).flatten(1)

"""What rays meet, and how much of a light reaches a point."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from threedgp.data.world.landscapes import FAR
from threedgp.data.world.solids import Array, Solid, transform

SKY, GROUND = -2, -1
"""Owners of rays that meet no solid."""


def trace(
    solids: tuple[Solid, ...], ground: float, origin: Array, axes: Array, fov: float, directions: Array
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Distance `[S, R, R]` of what rays meet first, and its owner: a number of `solids`, `GROUND` or `SKY`.

    Args:
        ground: height of the ground.
        origin, axes, fov: the camera (`cameras.camera_axes`).
        directions: `[3, S, R, R]`, unit directions through pixels, up to a pixel beside their centers.
    """
    down = directions[1] < 0
    distances = (ground - float(origin[1])) / np.where(down, directions[1], -1)
    on_ground = down & (distances < FAR)
    depth = np.where(on_ground, distances, np.float32(FAR))
    owner = np.where(on_ground, GROUND, SKY).astype(np.int8)
    windows = _windows(solids, origin, axes, fov, directions.shape[-1])
    for number, (solid, (rows, columns)) in enumerate(zip(solids, windows, strict=True)):
        distances = solid.intersect(origin, directions[:, :, rows, columns])
        nearer = distances < depth[:, rows, columns]
        depth[:, rows, columns][nearer] = distances[nearer]
        owner[:, rows, columns][nearer] = number
    return depth, owner


def _windows(
    solids: tuple[Solid, ...], origin: Array, axes: Array, fov: float, resolution: int
) -> list[tuple[slice, slice]]:
    """Rows and columns of the pixels that may see each solid: the projection of its bounding box."""
    low, high = (bound - axes @ origin for bound in _bounds(solids, axes))
    focal = 1 / np.tan(np.deg2rad(fov) / 2)
    left, bottom = focal * np.minimum(low[:, :2] / low[:, 2:], low[:, :2] / high[:, 2:]).T
    right, top = focal * np.maximum(high[:, :2] / low[:, 2:], high[:, :2] / high[:, 2:]).T
    edges = (np.stack([-top, -bottom, left, right], axis=1) + 1) * (resolution - 1) / 2
    edges = np.clip(np.floor(edges) + [0, 2, 0, 2], 0, resolution).astype(int)
    return [(slice(*rows), slice(*columns)) for rows, columns in edges.reshape(-1, 2, 2).tolist()]


def _bounds(solids: Iterable[Solid], axes: Array) -> tuple[Array, Array]:
    """Smallest and largest coordinates of each solid along axes `[3, 3]`, both `[P, 3]`."""
    bounds = np.array([solid.bounds(axes) for solid in solids]).reshape(-1, 2, 3)
    return bounds[:, 0], bounds[:, 1]


def visibility(
    casters: dict[int, Solid],
    points: Array,
    owner: NDArray[np.int8],
    light: Array,
    light_size: float,
    ground: float,
) -> Array:
    """Share `[N]` of a far light that reaches points `[3, N]` on the solids `owner` `[N]`, which do not shade themselves.

    Args:
        casters: solids that cast shadows, by number.
        light: `[3]`, unit vector towards the light.
        light_size: tangent of its angular radius.
        ground: height of the ground, below which there are no points.
    """
    axes = _axes_along(light)
    u, v, w = transform(axes, points)
    share = np.ones_like(u)
    low, high = _bounds(casters.values(), axes)
    penumbra = light_size * (_bounds(casters.values(), np.eye(3))[1][:, 1] - ground) / light[1]
    middle, reach = (low + high) / 2, (high - low) / 2 + penumbra[:, None]
    boxes = np.concatenate([middle[:, :2], reach[:, :2], high[:, 2:]], axis=1).tolist()
    for (number, solid), (across, along, width, height, front) in zip(casters.items(), boxes, strict=True):
        reached = (abs(u - across) < width) & (abs(v - along) < height) & (w < front) & (owner != number)
        shaded = np.flatnonzero(reached)
        share[shaded] *= 1 - solid.occlusion(points.take(shaded, axis=1), light, light_size)
    return share


def _axes_along(light: Array) -> Array:
    """Orthonormal axes `[3, 3]` (rows), the last of which points to the light."""
    right = np.cross(light, [1.0, 0.0, 0.0])
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(light, right), light])

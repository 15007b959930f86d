"""What rays meet, and how much of a light reaches a point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from threedgp.data.world.cameras import View
from threedgp.data.world.landscapes import FAR
from threedgp.data.world.scenes import Scene
from threedgp.data.world.solids import Array, Solid, bounds, transform

SKY, GROUND = -2, -1
"""Owners of rays that meet no solid."""


def trace(scene: Scene, view: View, directions: Array) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Distance `[S, R, R]` of what rays meet first, and its owner: the number of a solid, `GROUND` or `SKY`.

    Args:
        directions: `[3, S, R, R]`, unit directions through pixels, less than a pixel beside their centers.
    """
    down = directions[1] < 0
    distances = (scene.ground - float(view.origin[1])) / np.where(down, directions[1], -1)
    on_ground = down & (distances < FAR)
    depth = np.where(on_ground, distances, np.float32(FAR))
    owner = np.where(on_ground, GROUND, SKY).astype(np.int8)
    windows = _windows(scene.solids, view, directions.shape[-1])
    for number, (solid, (rows, columns)) in enumerate(zip(scene.solids, windows, strict=True)):
        distances = solid.intersect(view.origin, directions[:, :, rows, columns])
        nearer = distances < depth[:, rows, columns]
        depth[:, rows, columns][nearer] = distances[nearer]
        owner[:, rows, columns][nearer] = number
    return depth, owner


def _windows(solids: tuple[Solid, ...], view: View, resolution: int) -> list[tuple[slice, slice]]:
    """Rows and columns of the pixels that may see each solid: the projection of its bounding box."""
    low, high = (bound - view.axes @ view.origin for bound in bounds(solids, view.axes))
    left, bottom = view.focal * np.minimum(low[:, :2] / low[:, 2:], low[:, :2] / high[:, 2:]).T
    right, top = view.focal * np.maximum(high[:, :2] / low[:, 2:], high[:, :2] / high[:, 2:]).T
    edges = np.floor((np.stack([-top, -bottom, left, right], axis=1) + 1) * (resolution - 1) / 2)
    edges = np.clip(edges + np.array([0, 2, 0, 2]), 0, resolution).astype(int)
    return [(slice(*rows), slice(*columns)) for rows, columns in edges.reshape(-1, 2, 2).tolist()]


def visibility(
    scene: Scene, points: Array, owner: NDArray[np.int8], light: Array, light_size: float, min_size: float = 0.0
) -> Array:
    """Share `[N]` of a far light that reaches points `[3, N]`; no solid shades itself.

    Args:
        owner: `[N]`, numbers of the solids that the points are on, or `GROUND`.
        light: `[3]`, unit vector towards the light.
        light_size: tangent of its angular radius.
        min_size: smaller solids cast no shadow.
    """
    casters = {number: solid for number, solid in enumerate(scene.solids) if solid.size > min_size}
    right = np.cross(light, [1.0, 0.0, 0.0])
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(light, right), light])
    u, v, w = transform(axes, points)
    low, high = bounds(casters.values(), axes)
    tops = bounds(casters.values(), np.eye(3))[1][:, 1:2]
    middle, reach = (low + high) / 2, (high - low) / 2 + light_size * (tops - scene.ground) / light[1]  # with penumbra
    boxes = np.concatenate([middle[:, :2], reach[:, :2], high[:, 2:]], axis=1).tolist()
    share = np.ones_like(u)
    for (number, solid), (across, along, width, height, front) in zip(casters.items(), boxes, strict=True):
        reached = (abs(u - across) < width) & (abs(v - along) < height) & (w < front) & (owner != number)
        shaded = np.flatnonzero(reached)
        share[shaded] *= 1 - solid.occlusion(points.take(shaded, axis=1), light, light_size)
    return share

"""Intersections of rays with the scene, and the visibility of sun and sky."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from threedgp.data.world.cameras import View
from threedgp.data.world.landscapes import FAR
from threedgp.data.world.scenes import Scene
from threedgp.data.world.solids import Array, transform

SKY, GROUND = -2, -1
"""Owners of rays that hit no solid."""
SUN_SIZE = 0.12
"""Tangent of the angular radius of the sun."""
MIN_CASTER = 0.07
"""Size in frames below which a solid casts no shadow: eyes and noses."""
CONTACT, CONTACT_HEIGHT, CONTACT_MIN = 0.5, 0.2, 0.03
"""Strength of contact shadows; in frames, the height over which they fade and the half-width of the thinnest caster."""


def trace(scene: Scene, view: View, directions: Array) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Distance of the first hit of each ray, and its owner: the number of a solid, `GROUND` or `SKY`; both `[S, R, R]`.

    Args:
        directions: `[3, S, R, R]`, unit directions, each less than half a pixel from the center of its pixel.
    """
    down = directions[1] < 0
    distances = (scene.ground - float(view.origin[1])) / np.where(down, directions[1], -1)
    on_ground = down & (distances < FAR)
    depth = np.where(on_ground, distances, np.float32(FAR))
    owner = np.where(on_ground, GROUND, SKY).astype(np.int8)
    windows = _windows(scene, view, directions.shape[-1])
    for number, (solid, (rows, columns)) in enumerate(zip(scene.solids, windows, strict=True)):
        distances = solid.intersect(view.origin, directions[:, :, rows, columns])
        nearer = distances < depth[:, rows, columns]
        depth[:, rows, columns][nearer] = distances[nearer]
        owner[:, rows, columns][nearer] = number
    return depth, owner


def _windows(scene: Scene, view: View, resolution: int) -> list[tuple[slice, slice]]:
    """Rows and columns of the pixels that may see each solid: the projection of its bounding box."""
    low, high = (bound - view.axes @ view.origin for bound in scene.bounds.along(view.axes))
    left, bottom = view.focal * np.minimum(low[:, :2] / low[:, 2:], low[:, :2] / high[:, 2:]).T
    right, top = view.focal * np.maximum(high[:, :2] / low[:, 2:], high[:, :2] / high[:, 2:]).T
    edges = np.floor((np.stack([-top, -bottom, left, right], axis=1) + 1) * (resolution - 1) / 2)
    edges = np.clip(edges + np.array([0, 2, 0, 2]), 0, resolution).astype(int)
    return [(slice(*rows), slice(*columns)) for rows, columns in edges.reshape(-1, 2, 2).tolist()]


def sun_visibility(scene: Scene, points: Array, owner: NDArray[np.int8]) -> Array:
    """Visible share `[N]` of the sun at points `[3, N]`. A solid casts no shadow on itself.

    Args:
        owner: `[N]`, numbers of the solids that the points are on, or `GROUND`.
    """
    right = np.cross(scene.sun, [1.0, 0.0, 0.0])
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(scene.sun, right), scene.sun])
    u, v, w = transform(axes, points)
    low, high = scene.bounds.along(axes)
    tops = scene.bounds.along(np.eye(3))[1][:, 1:2]
    penumbra = SUN_SIZE * (tops - scene.ground) / scene.sun[1]
    middle, reach = (low + high) / 2, (high - low) / 2 + penumbra
    boxes = np.concatenate([middle[:, :2], reach[:, :2], high[:, 2:]], axis=1).tolist()
    share = np.ones_like(u)
    for number, (solid, (across, along, width, height, front)) in enumerate(zip(scene.solids, boxes, strict=True)):
        if solid.size > MIN_CASTER * scene.frame:
            reached = (abs(u - across) < width) & (abs(v - along) < height) & (w < front) & (owner != number)
            shaded = np.flatnonzero(reached)
            share[shaded] *= 1 - solid.occlusion(points.take(shaded, axis=1), scene.sun, SUN_SIZE)
    return share


def sky_visibility(scene: Scene, points: Array) -> Array:
    """Visible share `[N]` of the sky at points `[3, N]` of the ground: contact shadows.

    Each solid near the ground casts one soft blob.
    """
    low, high = scene.bounds.along(np.eye(3))
    strength = CONTACT * np.exp(-(low[:, 1] - scene.ground) / (CONTACT_HEIGHT * scene.frame))
    share = np.ones_like(points[0])
    for weight, (x, _, z), (width, _, length) in zip(strength, (low + high) / 2, (high - low) / 2, strict=True):
        if weight > 0.1 and min(width, length) > CONTACT_MIN * scene.frame:
            distance = ((points[0] - float(x)) / float(width)) ** 2 + ((points[2] - float(z)) / float(length)) ** 2
            share *= 1 - float(weight) * np.exp(-0.5 * distance)
    return share

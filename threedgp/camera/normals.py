"""Surface normals of depth maps."""

from __future__ import annotations

import numpy as np


def depth_normals(depth: np.ndarray, fov: np.ndarray) -> np.ndarray:
    """Unit normals of the surfaces that depth maps show, in camera space: +x right, +y up, +z towards the viewer.

    The cross product of the differences between neighboring pixels' points: central ones, one-sided at the border.
    Depth is `[N, R, R]`, R >= 2, along the ray in scene units, fov `[N]` in degrees (full angle), the result
    `[N, R, R, 3]`, zero where neighbors coincide.
    """
    line = np.linspace(-1, 1, depth.shape[-1])
    focal = np.broadcast_to(1 / np.tan(np.deg2rad(fov) / 2)[:, None, None], depth.shape)
    directions = np.stack(
        [np.broadcast_to(line, depth.shape), np.broadcast_to(-line[:, None], depth.shape), -focal], axis=-1
    )
    points = depth[..., None] * directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    down, right = np.gradient(points, axis=(1, 2))
    normals = np.cross(down, right)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    return np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)

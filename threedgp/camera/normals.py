"""Surface normals of depth maps."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


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


def relief_normals(depth: Tensor, scales: Tensor) -> Tensor:
    """Unit normals `[B, 3, R, R]` of patches of relative depth `[B, 1, R, R]` in [-1, 1], R >= 2, on the axes of
    `depth_normals`: differentiable.

    Relative depth has no unit and no known camera, so it counts as a relief over the image plane, which also runs from
    -1 to 1. `scales` `[B, 2]` are the sides of each patch for x and y as fractions of the image: a surface has the
    same normals in patches of every scale. Central differences, one-sided at the border.
    """
    down, right = torch.gradient(depth, dim=(2, 3))
    pixels = (depth.shape[-1] - 1) / (2 * scales[:, :, None, None])  # per unit of the image plane
    slopes = [right * pixels[:, :1], -down * pixels[:, 1:], torch.ones_like(depth)]
    return F.normalize(torch.cat(slopes, dim=1), dim=1)

"""Do two views of a generated scene show the same scene? One is reprojected into the other through rendered depth.

Every pixel of the first view is a point in space; the second view looks at that point. Where it sees something nearer,
the point is hidden and not judged. Where it sees something farther, the point is not there: an error, judged in full.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.camera.geometry import FOV, axis_cosines, cam2world, rays

HIDDEN = 0.02
"""A point is hidden if the second view sees something nearer by more than this share of its distance."""
EDGE = 1e-4
"""By how much of the picture's half width rounding may push a border pixel out of it."""


class ViewAgreement(NamedTuple):
    """Means over the judged pixels of each scene, `[B]`; NaN where none is judged."""

    color_error: Tensor
    """Mean absolute difference of colours, in the unit of the pictures."""
    depth_error: Tensor
    """Mean absolute difference of distances along the second view's axis, in scene units."""
    judged: Tensor
    """Share of the first view's pixels that fall into the second and are not hidden there."""


def project(points: Tensor, cameras: Tensor) -> tuple[Tensor, Tensor]:
    """Where cameras `[B, 8]` see points `[B, N, 3]`.

    Returns:
        places on the image plane, (x, y) `[B, N, 2]` with the picture in [-1, 1] and y up, and distances along the
        optical axis `[B, N]`, which are negative behind the camera.
    """
    pose = cam2world(cameras)
    local = (points - pose[:, None, :3, 3]) @ pose[:, :3, :3]
    along = -local[..., 2]
    focal = 1 / torch.tan(torch.deg2rad(cameras[:, FOV]) / 2)
    return local[..., :2] * focal[:, None, None] / along[..., None], along


def view_agreement(
    first_rgb: Tensor,
    first_depth: Tensor,
    first_cameras: Tensor,
    second_rgb: Tensor,
    second_depth: Tensor,
    second_cameras: Tensor,
) -> ViewAgreement:
    """Compare two views of each scene.

    The second view is read between its pixels: colours bilinear, depth bilinear in 1 / z, which is exact on planes.

    Args:
        first_rgb, second_rgb: `[B, 3, R, R]`.
        first_depth, second_depth: `[B, 1, R, R]`, along the ray in scene units.
        first_cameras, second_cameras: `[B, 8]`.
    """
    resolution = first_rgb.shape[-1]
    origins, directions = rays(first_cameras, resolution)
    points = origins + directions * first_depth.flatten(1)[..., None]
    places, along = project(points, second_cameras)
    inside = (along > 0) & (places.abs() <= 1 + EDGE).all(dim=-1)

    grid = torch.stack([places[..., 0], -places[..., 1]], dim=-1)[:, :, None]  # rows count from the top
    axis = second_depth * axis_cosines(second_cameras, resolution).view_as(second_depth)

    def look_up(images: Tensor) -> Tensor:
        """`[B, C, N]` at the places."""
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)[..., 0]

    color, seen = look_up(second_rgb), 1 / look_up(1 / axis)[:, 0]
    judged = inside & (seen > along * (1 - HIDDEN))
    color_error = (first_rgb.flatten(2) - color).abs().mean(dim=1)
    return ViewAgreement(
        _mean(color_error, judged), _mean((seen - along).abs(), judged), judged.to(first_rgb.dtype).mean(dim=1)
    )


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Over the chosen pixels `[B, N]` of each scene."""
    return torch.where(chosen, values, 0).sum(dim=1) / chosen.sum(dim=1)

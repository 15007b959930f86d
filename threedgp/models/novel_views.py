"""Views from outside of the camera prior, compared with views at its edge (`train.novel_view`).

The discriminator judges views inside of the prior only. Depth turns the pixels of such a view into points in space,
which other cameras see, too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from threedgp.camera.geometry import YAW, axis_cosines, is_inside, project, rays, sample_images
from threedgp.camera.priors import prior_mean_angles, prior_reach
from threedgp.config import CameraConfig

MAX_TURN = 0.5
"""Largest angle between the edge of the prior and a camera outside of it, in radians."""
STEPS = 64
"""Steps along a ray."""
MAX_RISE = 0.05
"""A surface is crossed if the depth behind it grows by at most this fraction of the ray's length in one step; more is
the edge of an object, behind which the known view shows nothing, or a surface that it sees at a grazing angle."""
MARGIN = 0.01
"""Pixels of the known view show nothing if their depth is within this fraction of the ray's length from its end."""


def outer_cameras(config: CameraConfig, cameras: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Cameras `[B, 8]` turned to the edge of the prior's yaw on their own side, and the same turned beyond it by up to
    `MAX_TURN`, in proportion to uniform numbers `u` `[B]`."""
    middle = prior_mean_angles(config)[0]
    side = torch.where(cameras[:, YAW] < middle, -1.0, 1.0)
    yaw = middle + side * prior_reach(config, "yaw")
    edge, beyond = cameras.clone(), cameras.clone()
    edge[:, YAW], beyond[:, YAW] = yaw, yaw + side * MAX_TURN * u
    return edge, beyond


def warp(images: Tensor, cameras: Tensor, others: Tensor, depth_range: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Reproject known views into other views of the same scenes.

    Rays of the other cameras are followed until they cross the surface that the known depth describes.

    Args:
        images: known views, color and depth along the ray, `[B, 4, R, R]`.
        cameras, others: cameras of the known and of the other views, `[B, 8]`.
        depth_range: near and far ends of the rays, in scene units.

    Returns:
        Color and depth of the other views `[B, 4, R, R]`, and the pixels where they are known, `[B, 1, R, R]`.
    """
    resolution, (near, far) = images.shape[-1], depth_range
    origins, directions = rays(others, resolution)
    distances = torch.linspace(near, far, STEPS, dtype=images.dtype, device=images.device)
    points = origins[:, :, None] + distances[:, None] * directions[:, :, None]  # [B, N, S, 3]
    positions, along = (x.unflatten(1, points.shape[1:3]) for x in project(points.flatten(1, 2), cameras))
    axis = images[:, 3:] * axis_cosines(cameras, resolution).view_as(images[:, 3:])
    behind = along - _look_up(axis, positions)[:, 0]  # [B, N, S]

    first = (behind >= 0).to(torch.uint8).argmax(dim=-1, keepdim=True)  # 0 if the ray crosses nothing
    last = (first - 1).clamp(min=0)
    before, after = behind.gather(-1, last), behind.gather(-1, first)
    share = (before / (before - after).clamp(max=-1e-12)).clamp(0, 1)  # of the last step, up to the surface
    depth = distances[last] + share * (distances[1] - distances[0])
    found, _ = project(origins + depth * directions, cameras)
    known = _look_up(images, found[:, :, None])[..., 0]  # [B, 4, N]
    visible = (first > 0) & (after - before <= MAX_RISE * (far - near))
    visible &= is_inside(found)[..., None]
    visible &= known[:, 3, :, None] < far - MARGIN * (far - near)
    result = torch.cat([known[:, :3], depth.mT], dim=1), visible.mT
    return tuple(x.unflatten(2, (resolution, resolution)) for x in result)


def _look_up(images: Tensor, positions: Tensor) -> Tensor:
    """Values `[B, C, N, S]` of images `[B, C, R, R]` at positions `[B, N, S, 2]` of the image plane."""
    return sample_images(images, positions.nan_to_num().clamp(-2, 2))

"""Cameras on a sphere that look at a point inside a ball: poses, rays, and patches of the image plane.

World axes are right-handed with +y up. Yaw 0 and pitch pi/2 is a camera on the +z axis. A camera looks along its own
-z, its +x is to the right of the image and its +y up. The image plane runs from -1 to 1 with corners aligned: the
centers of the outermost pixels lie on -1 and 1, and the top row is y = +1. Cameras are parametrized as in 3DGP,
section 3.3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CAMERA_FIELDS = ("yaw", "pitch", "roll", "fov", "radius", "look_at_yaw", "look_at_pitch", "look_at_radius")
"""Columns of a camera tensor `[B, 8]`: radians, but `fov` in degrees (full angle); radii in scene units."""

YAW, PITCH, ROLL, FOV, RADIUS, LOOK_AT_YAW, LOOK_AT_PITCH, LOOK_AT_RADIUS = range(8)
LEARNED = (YAW, PITCH, FOV, LOOK_AT_YAW, LOOK_AT_PITCH, LOOK_AT_RADIUS)
"""Columns that the camera generator changes."""
PRIOR_FIELDS = {"yaw": YAW, "pitch": PITCH, "fov": FOV, "look_at_radius": LOOK_AT_RADIUS}
"""Fields that have bounds in the prior, and their columns."""


def spherical_to_cartesian(yaw: Tensor, pitch: Tensor, radius: Tensor) -> Tensor:
    """Points `[..., 3]` from angles in radians and radius, each `[...]`."""
    return torch.stack(
        [
            radius * torch.sin(pitch) * torch.sin(-yaw),
            radius * torch.cos(pitch),
            radius * torch.sin(pitch) * torch.cos(yaw),
        ],
        dim=-1,
    )


def _poses(cameras: Tensor) -> Tensor:
    """The upper three rows `[B, 3, 4]` of `cam2world`."""
    # Origin and look-at point side by side: columns YAW and LOOK_AT_YAW, and so on.
    yaw, pitch, radius = cameras[:, YAW::5], cameras[:, PITCH::5], cameras[:, RADIUS::3]
    origin, look_at = spherical_to_cartesian(yaw, pitch, radius).unbind(1)
    forward = F.normalize(look_at - origin, dim=-1)
    x, _, z = forward.unbind(-1)
    right = F.normalize(torch.stack([-z, torch.zeros_like(x), x], dim=-1), dim=-1)  # forward cross (0, 1, 0)
    up = torch.linalg.cross(right, forward)
    roll = cameras[:, ROLL, None]
    cos, sin = torch.cos(roll), torch.sin(roll)
    return torch.stack([cos * right + sin * up, cos * up - sin * right, -forward, origin], dim=-1)


def cam2world(cameras: Tensor) -> Tensor:
    """Camera-to-world matrices `[B, 4, 4]` of cameras `[B, 8]`.

    Roll turns the camera around its viewing direction, counterclockwise as seen in the image.
    """
    poses = _poses(cameras)
    last = torch.zeros_like(poses[:, :1])
    last[..., 3] = 1
    return torch.cat([poses, last], dim=1)


def image_plane(
    resolution: int,
    scales: Tensor | None = None,
    offsets: Tensor | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Tensor:
    """Coordinates of the pixels of whole images or of patches, row by row from the top.

    Args:
        resolution: pixels along each side, R.
        scales: `[B, 2]`, side of the patch as a fraction of the image, for x and y; None = the whole image.
        offsets: `[B, 2]`, left and *bottom* edge of the patch as a fraction of the image.

    Returns:
        (x, y) in [-1, 1], `[B, R*R, 2]` (B = 1 without patches).
    """
    if scales is not None:
        dtype, device = scales.dtype, scales.device
    line = torch.linspace(-1, 1, resolution, dtype=dtype, device=device)
    y, x = torch.meshgrid(-line, line, indexing="ij")
    plane = torch.stack([x, y], dim=-1).reshape(1, -1, 2)
    if scales is None:
        return plane
    return (plane + 1) * scales[:, None] - 1 + 2 * offsets[:, None]


def rays(
    cameras: Tensor, resolution: int, scales: Tensor | None = None, offsets: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """World-space rays of cameras `[B, 8]` through the pixels of whole images or patches, row by row from the top:
    origins and unit directions, each `[B, R*R, 3]`. Other arguments as in `image_plane`."""
    plane = image_plane(resolution, scales, offsets, dtype=cameras.dtype, device=cameras.device)
    plane = plane.expand(cameras.shape[0], -1, -1)
    depth = -1 / torch.tan(torch.deg2rad(cameras[:, FOV]) / 2)
    directions = torch.cat([plane, depth[:, None, None].expand(-1, plane.shape[1], 1)], dim=-1)
    rotation, origin = _poses(cameras).split((3, 1), dim=2)
    directions = F.normalize(directions, dim=-1) @ rotation.transpose(1, 2)
    return origin.transpose(1, 2).expand_as(directions), directions


def axis_cosines(
    cameras: Tensor, resolution: int, scales: Tensor | None = None, offsets: Tensor | None = None
) -> Tensor:
    """Cosine between each of the `rays` and the optical axis, `[B, R*R]`; arguments as there.

    A distance along a ray times its cosine is the distance along the axis, which depth estimators predict.
    """
    plane = image_plane(resolution, scales, offsets, dtype=cameras.dtype, device=cameras.device)
    focal = 1 / torch.tan(torch.deg2rad(cameras[:, FOV]) / 2)
    return focal[:, None] * torch.rsqrt(plane.square().sum(dim=-1) + focal[:, None].square())


def project(points: Tensor, cameras: Tensor) -> tuple[Tensor, Tensor]:
    """Project points `[B, N, 3]` into cameras `[B, 8]`: positions on the image plane, (x, y) `[B, N, 2]` with the image
    in [-1, 1] and y up, and distances along the optical axis `[B, N]`, which are negative behind the camera."""
    pose = cam2world(cameras)
    local = (points - pose[:, None, :3, 3]) @ pose[:, :3, :3]
    along = -local[..., 2]
    focal = 1 / torch.tan(torch.deg2rad(cameras[:, FOV]) / 2)
    return local[..., :2] * focal[:, None, None] / along[..., None], along


def cut_patches(images: Tensor, resolution: int, scales: Tensor, offsets: Tensor) -> Tensor:
    """Patches `[B, C, R, R]` of images `[B, C, H, W]`: bilinear, corners aligned, at the coordinates of `rays`."""
    plane = image_plane(resolution, scales, offsets).reshape(-1, resolution, resolution, 2)
    grid = torch.stack([plane[..., 0], -plane[..., 1]], dim=-1).to(images.dtype)  # rows count from the top
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)

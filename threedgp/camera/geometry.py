"""Cameras on a sphere that look at a point inside a ball: poses, rays, and patches of the image plane.

World axes are right-handed with +y up. Yaw 0 and pitch pi/2 is a camera on the +z axis. A camera looks along its own
-z, its +x is to the right of the image and its +y up. The image plane runs from -1 to 1 with corners aligned: the
centers of the outermost pixels lie on -1 and 1, and the top row is y = +1. Cameras are parametrized as in 3DGP,
section 3.3.
"""

from __future__ import annotations

from typing import NamedTuple

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

BORDER = 1e-4
"""Tolerance for border pixels that rounding pushes out of the image, as a fraction of its half width."""


class Patches(NamedTuple):
    """Patches of a batch of images, as fractions of the sides of the image."""

    scales: Tensor
    """`[B, 2]`, side for x and y."""
    offsets: Tensor
    """`[B, 2]`, left and *bottom* edge."""

    def parameters(self) -> Tensor:
        """Scale, x offset and y offset, `[B, 3]`, as the discriminator takes them; both sides have the same scale."""
        return torch.cat([self.scales[:, :1], self.offsets], dim=1)


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
    patches: Patches | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Tensor:
    """Coordinates (x, y) in [-1, 1] of the pixels of `patches` with R = `resolution` pixels along each side, row by row
    from the top: `[B, R*R, 2]`. None = the whole image, `[1, R*R, 2]`, with the given dtype and device."""
    if patches is not None:
        dtype, device = patches.scales.dtype, patches.scales.device
    line = torch.linspace(-1, 1, resolution, dtype=dtype, device=device)
    y, x = torch.meshgrid(-line, line, indexing="ij")
    plane = torch.stack([x, y], dim=-1).reshape(1, -1, 2)
    if patches is None:
        return plane
    return (plane + 1) * patches.scales[:, None] - 1 + 2 * patches.offsets[:, None]


def focal_lengths(cameras: Tensor) -> Tensor:
    """Distance of the image plane from each of the cameras `[B, 8]`, `[B]`, in units of half the image."""
    return 1 / torch.tan(torch.deg2rad(cameras[:, FOV]) / 2)


def rays(cameras: Tensor, resolution: int, patches: Patches | None = None) -> tuple[Tensor, Tensor]:
    """World-space rays of cameras `[B, 8]` through the pixels of whole images or patches, row by row from the top:
    origins and unit directions, each `[B, R*R, 3]`. Other arguments as in `image_plane`."""
    plane = image_plane(resolution, patches, dtype=cameras.dtype, device=cameras.device)
    plane = plane.expand(cameras.shape[0], -1, -1)
    depth = -focal_lengths(cameras)
    directions = torch.cat([plane, depth[:, None, None].expand(-1, plane.shape[1], 1)], dim=-1)
    rotation, origin = _poses(cameras).split((3, 1), dim=2)
    directions = F.normalize(directions, dim=-1) @ rotation.transpose(1, 2)
    return origin.transpose(1, 2).expand_as(directions), directions


def axis_cosines(cameras: Tensor, resolution: int, patches: Patches | None = None) -> Tensor:
    """Cosine between each of the `rays` and the optical axis, `[B, R*R]`; arguments as there.

    A distance along a ray times its cosine is the distance along the axis, which depth estimators predict.
    """
    plane = image_plane(resolution, patches, dtype=cameras.dtype, device=cameras.device)
    focal = focal_lengths(cameras)[:, None]
    return focal * torch.rsqrt(plane.square().sum(dim=-1) + focal.square())


def project(points: Tensor, cameras: Tensor) -> tuple[Tensor, Tensor]:
    """Project points `[B, N, 3]` into cameras `[B, 8]`: positions on the image plane, (x, y) `[B, N, 2]` with the image
    in [-1, 1] and y up, and distances along the optical axis `[B, N]`, which are negative behind the camera."""
    pose = cam2world(cameras)
    local = (points - pose[:, None, :3, 3]) @ pose[:, :3, :3]
    along = -local[..., 2]
    return local[..., :2] * focal_lengths(cameras)[:, None, None] / along[..., None], along


def is_inside(positions: Tensor) -> Tensor:
    """Whether positions `[..., 2]` on the image plane are inside the image, `[...]`: up to `BORDER` beyond its edge."""
    return (positions.abs() <= 1 + BORDER).all(dim=-1)


def sample_images(images: Tensor, positions: Tensor) -> Tensor:
    """Bilinear values `[B, C, N, S]` of images `[B, C, H, W]` at positions (x, y) `[B, N, S, 2]` on the image plane,
    corners aligned; beyond the border those of the nearest pixel."""
    grid = torch.stack([positions[..., 0], -positions[..., 1]], dim=-1).to(images.dtype)  # rows count from the top
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)


def cut_patches(images: Tensor, resolution: int, patches: Patches) -> Tensor:
    """Patches `[B, C, R, R]` of images `[B, C, H, W]`, with R = `resolution`, at the coordinates of `rays`."""
    return sample_images(images, image_plane(resolution, patches).unflatten(1, (resolution, resolution)))

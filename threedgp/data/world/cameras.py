"""Cameras of the procedural world, and their rays: the conventions of `threedgp.camera.geometry`, without PyTorch.

The cameras differ from the prior on purpose (narrower, looking slightly down), so that a camera generator has
something to find.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

YAW_STD = 0.35
PITCH_MEAN, PITCH_STD = np.pi / 2 - 0.2, 0.12
FOV_RANGE = (20.0, 30.0)
RADIUS = 1.0
LOOK_AT_RADIUS_RANGE = (0.0, 0.1)


def draw_camera(random: np.random.Generator) -> Array:
    """A camera `[8]`: yaw, pitch, roll, fov (degrees), radius, look-at yaw, pitch and radius."""
    yaw, pitch = random.normal(0, YAW_STD), random.normal(PITCH_MEAN, PITCH_STD)
    fov = random.uniform(*FOV_RANGE)
    look_at = random.normal(size=3)
    look_at_yaw, look_at_pitch = np.arctan2(-look_at[0], look_at[2]), np.arccos(look_at[1] / np.linalg.norm(look_at))
    pitch = np.clip(pitch, 0.1, np.pi - 0.1)  # straight above, up has no direction
    return np.array([yaw, pitch, 0, fov, RADIUS, look_at_yaw, look_at_pitch, random.uniform(*LOOK_AT_RADIUS_RANGE)])


def spherical_to_cartesian(yaw: float, pitch: float, radius: float) -> Array:
    """A point `[3]`."""
    return radius * np.array([np.sin(pitch) * np.sin(-yaw), np.cos(pitch), np.sin(pitch) * np.cos(yaw)])


def camera_axes(camera: Array) -> tuple[Array, Array]:
    """Position of a camera `[3]`, and its axes `[3, 3]`: rows point right, up, and ahead to the image plane."""
    yaw, pitch, roll, fov, radius, *look_at = camera
    origin = spherical_to_cartesian(yaw, pitch, radius)
    forward = _unit(spherical_to_cartesian(*look_at) - origin)
    left = _unit(np.cross([0.0, 1.0, 0.0], forward))
    right, up = -left, _unit(np.cross(forward, left))
    right, up = np.cos(roll) * right + np.sin(roll) * up, np.cos(roll) * up - np.sin(roll) * right
    return origin, np.stack([right, up, forward / np.tan(np.deg2rad(fov) / 2)])


def ray_directions(axes: Array, plane: Array) -> Array:
    """Unit directions `[3, N]` through points of the image plane `[2, N]` (x to the right, y up, from -1 to 1)."""
    right, up, ahead = axes[:, :, None]
    directions = right * plane[0] + up * plane[1] + ahead
    return directions / np.sqrt((directions * directions).sum(axis=0))


def image_plane(resolution: int) -> Array:
    """Pixel centres `[2, R*R]`, row by row from the top; the outermost lie on -1 and 1."""
    line = np.linspace(-1, 1, resolution)
    return np.stack([np.tile(line, resolution), np.repeat(-line, resolution)])


def _unit(vector: Array) -> Array:
    return vector / np.linalg.norm(vector)

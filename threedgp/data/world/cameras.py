"""Cameras of the procedural world, and their rays: the conventions of `threedgp.camera.geometry`, without PyTorch.

The distributions are narrower than the uniform prior and not uniform, so that a camera generator has something to find.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

YAW_MODES = {
    "front": (0.14, 0.0, 0.25),
    "front quarter": (0.46, 0.80, 0.22),
    "side": (0.34, 1.45, 0.18),
    "rear quarter": (0.06, 1.95, 0.15),
}
"""Share, mean and deviation of |yaw|, radians; left and right are equally likely. Yaw 0 sees the face."""
MAX_YAW = 2.3
ELEVATION_RANGE = (0.16, 0.46)
ELEVATION_BETA = (1.6, 3.2)
"""Elevation above the horizon (pi/2 - pitch): a beta distribution over the range, radians."""
FOV_STD = 0.08
"""Deviation of the field of view, relative to the mean of the class."""
FOV_RANGE = (12.0, 35.0)
RADIUS = 1.0
LOOK_AT_MEAN, LOOK_AT_STD = (0.0, 0.0, 0.06), 0.06
"""Look-at point, normal on each axis, in frames; it is drawn towards the head."""


def frame(fov: float) -> float:
    """Half the height of the image in scene units, at the distance of the origin."""
    return float(np.tan(np.deg2rad(fov) / 2) * RADIUS)


def draw_camera(random: np.random.Generator, mean_fov: float) -> Array:
    """A camera `[8]`: yaw, pitch, roll, fov (degrees), radius, look-at yaw, pitch and radius."""
    shares, means, deviations = zip(*YAW_MODES.values(), strict=True)
    mode = random.choice(len(shares), p=shares)
    yaw = min(abs(random.normal(means[mode], deviations[mode])), MAX_YAW) * random.choice((-1, 1))
    low, high = ELEVATION_RANGE
    pitch = np.pi / 2 - (low + (high - low) * random.beta(*ELEVATION_BETA))
    fov = np.clip(random.normal(mean_fov, FOV_STD * mean_fov), *FOV_RANGE)
    x, y, z = random.normal(LOOK_AT_MEAN, LOOK_AT_STD) * frame(mean_fov)
    look_at = np.sqrt(x * x + y * y + z * z)
    return np.array([yaw, pitch, 0, fov, RADIUS, np.arctan2(-x, z), np.arccos(y / look_at), look_at])


def spherical_to_cartesian(yaw: float, pitch: float, radius: float) -> Array:
    """A point `[3]`."""
    return radius * np.array([np.sin(pitch) * np.sin(-yaw), np.cos(pitch), np.sin(pitch) * np.cos(yaw)])


@dataclass(frozen=True)
class View:
    """A camera in the form that rays need."""

    origin: Array  # [3]
    axes: Array  # [3, 3], orthonormal rows: right, up, forward
    focal: float  # distance of the image plane, which runs from -1 to 1


def view_of(camera: Array) -> View:
    """View of a camera `[8]`."""
    yaw, pitch, roll, fov, radius, *look_at = camera
    origin = spherical_to_cartesian(yaw, pitch, radius)
    forward = _unit(spherical_to_cartesian(*look_at) - origin)
    left = _unit(np.cross([0.0, 1.0, 0.0], forward))
    right, up = -left, _unit(np.cross(forward, left))
    right, up = np.cos(roll) * right + np.sin(roll) * up, np.cos(roll) * up - np.sin(roll) * right
    return View(origin, np.stack([right, up, forward]), float(1 / np.tan(np.deg2rad(fov) / 2)))


def ray_directions(view: View, plane: Array) -> Array:
    """Unit directions `[3, ...]` through points `[2, ...]` of the image plane (x right, y up, from -1 to 1)."""
    x, y = plane
    scale = 1 / np.sqrt(x * x + y * y + view.focal**2)
    columns = view.axes.T.tolist()  # Python scalars keep the precision of `plane`
    return np.stack([(right * x + up * y + forward * view.focal) * scale for right, up, forward in columns])


def image_plane(resolution: int) -> Array:
    """Pixel centers `[2, R, R]`, row by row from the top; the outermost lie on -1 and 1."""
    line = np.linspace(-1, 1, resolution)
    return np.stack(np.meshgrid(line, -line))


def _unit(vector: Array) -> Array:
    return vector / np.linalg.norm(vector)

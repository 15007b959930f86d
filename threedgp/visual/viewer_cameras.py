"""The browser's camera and ours.

The browser orbits the origin at the radius of the model's cameras; its picture shows what our camera at the same yaw
and pitch sees. Field of view and look-at point are set beside the picture, not by the mouse.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from threedgp.camera.geometry import CAMERA_FIELDS, PITCH, RADIUS, YAW, cam2world, spherical_to_cartesian
from threedgp.config import CameraConfig

POLE_MARGIN = 0.02
"""Radians; straight above the scene, left and right are not defined."""
LIMITED = ("yaw", "pitch", "fov", "look_at_radius")
"""Fields of a camera that the prior confines."""
TOLERANCE = 1e-3
"""As a share of the prior's range: cameras on its very border lie inside."""
OPENCV_AXES = np.diag([1.0, -1.0, -1.0])
"""From the camera's axes in OpenCV, which the browser speaks (right, down, forward), to ours (right, up, backward)."""


def opencv_rotation(camera: Tensor) -> np.ndarray:
    """Camera-to-world rotation `[3, 3]` in OpenCV's axes of a camera `[8]`."""
    return cam2world(camera[None])[0, :3, :3].double().cpu().numpy() @ OPENCV_AXES


def rotation_of(wxyz: np.ndarray) -> np.ndarray:
    """Rotation `[3, 3]` of a quaternion `[4]`, real part first; it need not have unit length."""
    w, x, y, z = np.asarray(wxyz, np.float64) / np.linalg.norm(wxyz)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def orbit_angles(wxyz: np.ndarray) -> tuple[float, float]:
    """Yaw and pitch, in radians, of the camera on our sphere that looks at the origin in the browser's direction.

    The direction alone counts: where the browser's camera was moved to sideways changes nothing.

    Args:
        wxyz: its camera-to-world rotation in OpenCV's axes, a quaternion `[4]`.
    """
    x, y, z = -rotation_of(wxyz)[:, 2]  # from what it looks at to the camera
    pitch = math.acos(min(max(y, -1.0), 1.0))
    return math.atan2(-x, z), min(max(pitch, POLE_MARGIN), math.pi - POLE_MARGIN)


def orbit_position(camera: Tensor) -> tuple[float, float, float]:
    """Where the browser's camera belongs for our camera `[8]`; it looks at the origin from there."""
    x, y, z = spherical_to_cartesian(camera[YAW], camera[PITCH], camera[RADIUS]).double().tolist()
    return x, y, z


def make_camera(config: CameraConfig, values: dict[str, float]) -> Tensor:
    """A camera `[8]` from some of `CAMERA_FIELDS`; the radius is the model's, the rest is 0."""
    known = {"radius": config.radius, **values}
    return torch.tensor([known.get(field, 0.0) for field in CAMERA_FIELDS])


def outside_prior(config: CameraConfig, camera: Tensor) -> list[str]:
    """Fields of a camera `[8]` that lie outside of what cameras were drawn from while the model was trained."""
    found = []
    for field in LIMITED:
        low, high = getattr(config, field)
        slack = TOLERANCE * max(high - low, 1e-3)
        if not low - slack <= camera[CAMERA_FIELDS.index(field)].item() <= high + slack:
            found.append(field)
    return found

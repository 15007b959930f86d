"""Conversion between the browser's camera and cameras `[8]` of the model.

The browser's camera orbits the origin at the radius of the model's cameras; the page shows what the model's camera at
the same yaw and pitch sees. Field of view and look-at point are set by sliders, not by the mouse.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation
from torch import Tensor

from threedgp.camera.geometry import CAMERA_FIELDS, PITCH, RADIUS, YAW, spherical_to_cartesian
from threedgp.config import CameraConfig

POLE_MARGIN = 0.02
"""Radians; left and right are undefined straight above the scene."""
PRIOR_FIELDS = ("yaw", "pitch", "fov", "look_at_radius")
"""Fields of a camera that have a range in the prior."""
TOLERANCE = 1e-3
"""As a share of the range, so that a camera on its border is inside."""


def orbit_angles(wxyz: np.ndarray) -> tuple[float, float]:
    """Yaw and pitch, in radians, of the camera that looks at the origin in the direction of the browser's camera.

    Args:
        wxyz: camera-to-world rotation of the browser's camera with OpenCV's axes, a quaternion `[4]`, real part first.
    """
    rotation = Rotation.from_quat(wxyz, scalar_first=True).as_matrix()
    x, y, z = -rotation[:, 2]  # from the look-at point to the camera
    pitch = math.acos(min(max(y, -1.0), 1.0))
    return math.atan2(-x, z), min(max(pitch, POLE_MARGIN), math.pi - POLE_MARGIN)


def orbit_position(camera: Tensor) -> tuple[float, float, float]:
    """Position of the browser's camera for a camera `[8]`; it looks at the origin."""
    x, y, z = spherical_to_cartesian(camera[YAW], camera[PITCH], camera[RADIUS]).double().tolist()
    return x, y, z


def outside_prior(config: CameraConfig, camera: Sequence[float]) -> list[str]:
    """Fields of a camera, in the order of `CAMERA_FIELDS`, that lie outside of the prior of training."""
    found = []
    for field in PRIOR_FIELDS:
        low, high = getattr(config, field)
        slack = TOLERANCE * max(high - low, 1e-3)
        if not low - slack <= camera[CAMERA_FIELDS.index(field)] <= high + slack:
            found.append(field)
    return found

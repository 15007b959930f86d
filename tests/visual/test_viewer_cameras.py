"""The browser's camera and the model's camera look from the same side."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import viser.transforms

from threedgp.camera.geometry import CAMERA_FIELDS, cam2world
from threedgp.camera.priors import frontal_cameras
from threedgp.config import CameraConfig
from threedgp.visual.viewer import orbit_angles, orbit_position, outside_prior

CONFIG = CameraConfig()
RNG = np.random.default_rng(0)
ANGLES = [(0.0, math.pi / 2), (3.1, 0.1), (-3.1, 3.0), *RNG.uniform((-3.1, 0.1), (3.1, 3.04), (40, 2)).tolist()]


def opencv_rotation(camera: torch.Tensor) -> np.ndarray:
    """Camera-to-world rotation `[3, 3]` with OpenCV's axes (right, down, forward), which the browser uses."""
    return cam2world(camera[None])[0, :3, :3].numpy() @ np.diag([1.0, -1.0, -1.0])


def camera(yaw: float, pitch: float) -> torch.Tensor:
    return torch.tensor([yaw, pitch, 0.0, 20.0, CONFIG.radius, 0.0, 0.0, 0.0], dtype=torch.float64)


@pytest.mark.parametrize(("yaw", "pitch"), ANGLES)
def test_angles_of_a_pose_that_the_browser_reports(yaw, pitch):
    wxyz = viser.transforms.SO3.from_matrix(opencv_rotation(camera(yaw, pitch))).wxyz
    assert orbit_angles(wxyz) == pytest.approx((yaw, pitch), abs=1e-6)
    assert orbit_angles(-3 * wxyz) == pytest.approx((yaw, pitch), abs=1e-6)


@pytest.mark.parametrize(("yaw", "pitch"), ANGLES)
def test_angles_of_a_browser_camera_at_the_orbit_position(yaw, pitch):
    """As viser builds it from position, look-at point and up: z forward, y down (OpenCV)."""
    position = np.array(orbit_position(camera(yaw, pitch)))
    assert position == pytest.approx(cam2world(camera(yaw, pitch)[None])[0, :3, 3].numpy())
    assert np.linalg.norm(position) == pytest.approx(CONFIG.radius)
    forward = -position / np.linalg.norm(position)
    right = np.cross(forward, (0.0, 1.0, 0.0))
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward], axis=1)
    assert rotation == pytest.approx(opencv_rotation(camera(yaw, pitch)), abs=1e-6)
    wxyz = viser.transforms.SO3.from_matrix(rotation).wxyz
    assert orbit_angles(wxyz) == pytest.approx((yaw, pitch), abs=1e-6)


def test_pitch_stays_off_the_poles():
    above = viser.transforms.SO3.from_matrix(np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])).wxyz
    assert 0 < orbit_angles(above)[1] < 0.1


def test_cameras_of_the_prior_lie_inside_and_others_are_named():
    middle = dict(zip(CAMERA_FIELDS, frontal_cameras(CONFIG, 1)[0].tolist(), strict=True))
    assert outside_prior(CONFIG, list(middle.values())) == []
    border = {**middle, "yaw": CONFIG.yaw[1], "fov": CONFIG.fov[0]}
    assert outside_prior(CONFIG, list(border.values())) == []
    far = {**middle, "yaw": CONFIG.yaw[1] + 0.1, "look_at_radius": CONFIG.look_at_radius[1] + 0.1}
    assert outside_prior(CONFIG, list(far.values())) == ["yaw", "look_at_radius"]

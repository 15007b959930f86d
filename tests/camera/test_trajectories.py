"""Camera paths stay on their sphere, inside the prior, and close where they should."""

from __future__ import annotations

import math

import pytest
import torch

from threedgp.camera.geometry import CAMERA_FIELDS, FOV, PITCH, RADIUS, YAW, cam2world
from threedgp.camera.trajectories import arc, orbit, wiggle
from threedgp.config import CameraConfig

UNIFORM = CameraConfig()


@pytest.mark.parametrize("path", [arc, orbit, wiggle])
def test_shape_radius_and_finite_poses(path):
    cameras = path(UNIFORM, 12)
    assert cameras.shape == (12, len(CAMERA_FIELDS))
    poses = cam2world(cameras)
    assert torch.isfinite(poses).all()
    torch.testing.assert_close(poses[:, :3, 3].norm(dim=1), torch.full((12,), UNIFORM.radius))


def test_arc_goes_from_left_to_right_through_the_middle():
    cameras = arc(UNIFORM, 5)
    across = cam2world(cameras)[:, 0, 3]  # x of the camera's place
    assert (across.diff() > 0).all()
    torch.testing.assert_close(across, -across.flip(0))
    assert cameras[0, YAW] == pytest.approx(0.8 * math.pi / 2)
    assert arc(UNIFORM, 1)[0, YAW] == 0


def test_orbit_turns_once_in_equal_steps():
    places = cam2world(orbit(UNIFORM, 8))[:, :3, 3]
    steps = (places - places.roll(1, 0)).norm(dim=1)
    torch.testing.assert_close(steps, torch.full((8,), 2 * math.sin(math.pi / 8)))


def test_wiggle_closes_around_a_camera():
    around = torch.tensor([0.3, 1.2, 0.0, 20.0, 1.0, 0.5, 1.0, 0.1])
    cameras = wiggle(UNIFORM, 16, around)
    torch.testing.assert_close(cameras[:, [YAW, PITCH]].mean(0), around[[YAW, PITCH]])
    unmoved = [FOV, RADIUS, 5, 6, 7]
    torch.testing.assert_close(cameras[:, unmoved], around[unmoved].expand(16, -1))


def test_narrow_priors_still_move_and_poles_are_avoided():
    fixed = CameraConfig(prior="fixed", yaw=(0, 0), pitch=(1.5, 1.5))
    assert wiggle(fixed, 8)[:, YAW].max() > 0.05
    high = torch.tensor([0.0, 0.05, 0.0, 20.0, 1.0, 0.0, 1.5, 0.0])
    assert (wiggle(UNIFORM, 8, high)[:, PITCH] > 0.09).all()
    normal = CameraConfig(prior="normal", yaw=(-3, 3), yaw_std=0.3)
    assert arc(normal, 2, share=1.0)[0, YAW] == pytest.approx(0.6)

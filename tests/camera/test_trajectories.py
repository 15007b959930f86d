"""Camera paths stay on their sphere, inside the prior, and close where they should."""

from __future__ import annotations

import math

import pytest
import torch

from threedgp.camera.geometry import CAMERA_FIELDS, FOV, LOOK_AT_YAW, PITCH, RADIUS, YAW, cam2world
from threedgp.camera.geometry import spherical_to_cartesian as cartesian
from threedgp.camera.trajectories import PATHS, front_circle, front_disk, line, orbit, points, wiggle
from threedgp.config import CameraConfig

UNIFORM = CameraConfig()
AROUND = torch.tensor([0.3, 1.2, 0.0, 20.0, 1.0, 0.5, 1.0, 0.1])
UNMOVED = [FOV, RADIUS, 5, 6, 7]


@pytest.mark.parametrize("path", PATHS.values())
def test_shape_radius_and_finite_poses(path):
    cameras = path(UNIFORM, 12)
    assert cameras.shape == (12, len(CAMERA_FIELDS))
    poses = cam2world(cameras)
    assert torch.isfinite(poses).all()
    torch.testing.assert_close(poses[:, :3, 3].norm(dim=1), torch.full((12,), UNIFORM.radius))


def test_settings_offer_the_paths_that_are_there():
    from threedgp.commands.fly import PathName
    from threedgp.config import RenderConfig

    for offered in (RenderConfig.model_fields["flight_path"].annotation, PathName):
        assert set(offered.__args__) == set(PATHS)


def test_line_goes_from_left_to_right_through_the_middle():
    cameras = line(UNIFORM, 5)
    across = cam2world(cameras)[:, 0, 3]  # x of the camera's place
    assert (across.diff() > 0).all()
    torch.testing.assert_close(across, -across.flip(0))
    assert cameras[0, YAW] == pytest.approx(0.8 * math.pi / 2)
    assert line(UNIFORM, 1)[0, YAW] == 0


def test_orbit_turns_once_in_equal_steps():
    places = cam2world(orbit(UNIFORM, 8))[:, :3, 3]
    steps = (places - places.roll(1, 0)).norm(dim=1)
    torch.testing.assert_close(steps, torch.full((8,), 2 * math.sin(math.pi / 8)))


@pytest.mark.parametrize("path", [front_circle, wiggle])
def test_closed_paths_stay_around_their_camera(path):
    cameras = path(UNIFORM, 16, AROUND)
    torch.testing.assert_close(cameras[:, [YAW, PITCH]].mean(0), AROUND[[YAW, PITCH]])
    torch.testing.assert_close(cameras[:, UNMOVED], AROUND[UNMOVED].expand(16, -1))
    assert torch.equal(path(UNIFORM, 16, AROUND.double().requires_grad_()), cameras)
    steps = (cameras - cameras.roll(1, 0)).norm(dim=1)  # the one from the last back to the first among them
    assert steps.max() < 2 * steps.median()


def test_front_circle_is_a_ring_and_wiggle_a_lying_eight():
    ring = front_circle(UNIFORM, 16, AROUND)[:, [YAW, PITCH]] - AROUND[[YAW, PITCH]]
    width, height = 0.5 * math.pi / 2, 0.25 * math.pi / 4  # of the prior's reach to either side
    torch.testing.assert_close((ring / torch.tensor([width, height])).norm(dim=1), torch.ones(16))
    eight = wiggle(UNIFORM, 16, AROUND)[:, [YAW, PITCH]] - AROUND[[YAW, PITCH]]
    torch.testing.assert_close(eight.amax(0), torch.tensor([width, height / 2]))
    torch.testing.assert_close(eight[0], torch.zeros(2))
    torch.testing.assert_close(eight[8], torch.zeros(2), atol=1e-6, rtol=0)
    assert (eight[1:8, 0] > 0).all() and (eight[9:, 0] < 0).all()


def test_front_disk_covers_its_area_evenly():
    disk = (front_disk(UNIFORM, 101, AROUND) - AROUND)[:, [YAW, PITCH]] / torch.tensor([math.pi / 4, math.pi / 16])
    torch.testing.assert_close(disk.norm(dim=1).square(), torch.linspace(0, 1, 101), atol=1e-5, rtol=1e-4)
    quadrants = 2 * (disk[1:, 0] > 0) + (disk[1:, 1] > 0)
    assert (quadrants.bincount() - 25).abs().max() <= 2


def test_narrow_priors_still_move_and_poles_are_avoided():
    fixed = CameraConfig(prior="fixed", yaw=(0, 0), pitch=(1.5, 1.5))
    assert front_circle(fixed, 8)[:, YAW].max() > 0.05
    high = torch.tensor([0.0, 0.05, 0.0, 20.0, 1.0, 0.0, 1.5, 0.0])
    assert (front_circle(UNIFORM, 8, high)[:, PITCH] > 0.09).all()
    normal = CameraConfig(prior="normal", yaw=(-3, 3), yaw_std=0.3)
    assert line(normal, 2)[0, YAW] == pytest.approx(0.8 * 0.6)  # two standard deviations


def test_points_pass_the_given_cameras_and_stay_between_them():
    given = torch.stack([AROUND, AROUND, AROUND])
    given[1, [YAW, FOV]], given[2, PITCH] = torch.tensor([-0.9, 35.0]), 1.9
    path = points(given, 9)
    torch.testing.assert_close(path[[0, 4, 8]], given)
    assert path[:, YAW].min() >= -0.9 - 1e-6 and path[:, FOV].max() <= 35 + 1e-5
    assert (path[:5, YAW].diff() < 0).all() and (path[4:, YAW].diff() > 0).all()


def test_closed_points_come_back():
    given = torch.stack([AROUND, AROUND])
    given[1, YAW] = 1.0
    path = points(given, 8, closed=True)
    torch.testing.assert_close(path[[0, 4]], given)
    torch.testing.assert_close(path[1:4], path[5:].flip(0))  # there and back
    torch.testing.assert_close(points(given[:1], 3), given[:1].expand(3, -1))


def test_points_move_the_look_at_point_in_space():
    """From look-at yaw 3.1 to -3.1 is a hair's breadth, not once around."""
    given = torch.stack([AROUND, AROUND])
    given[:, LOOK_AT_YAW] = torch.tensor([3.1, -3.1])
    place = cartesian(*points(given, 5)[:, 5:].unbind(1))
    ends = cartesian(*given[:, 5:].unbind(1))
    torch.testing.assert_close(place[[0, -1]], ends)
    assert (place - ends[0]).norm(dim=1).max() < 0.01

"""Poses, rays and patches against the published arrays and elementary geometry."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from golden_arrays import assert_matches, load
from threedgp.camera.geometry import (
    CAMERA_FIELDS,
    Patches,
    cam2world,
    cut_patches,
    image_plane,
    rays,
    spherical_to_cartesian,
)


@pytest.fixture
def arrays(golden: Path) -> dict[str, Tensor]:
    return load(golden, "camera.npz")


@pytest.fixture
def cameras(arrays: dict[str, Tensor]) -> Tensor:
    zero = torch.zeros_like(arrays["yaw"])
    return torch.stack([arrays.get({"fov": "fov_deg"}.get(name, name), zero) for name in CAMERA_FIELDS], dim=-1)


def test_poses_match_the_published_ones(arrays: dict[str, Tensor], cameras: Tensor) -> None:
    assert_matches(cam2world(cameras), arrays["cam2world"])


def test_rays_match_the_published_ones(arrays: dict[str, Tensor], cameras: Tensor) -> None:
    origins, directions = rays(cameras, 8)
    assert_matches(origins, arrays["ray_origins"])
    assert_matches(directions, arrays["ray_directions"])
    origins, directions = rays(cameras, 8, Patches(arrays["patch_scales"], arrays["patch_offsets"]))
    assert_matches(origins, arrays["patch_ray_origins"])
    assert_matches(directions, arrays["patch_ray_directions"])


def test_patches_match_the_published_ones(golden: Path) -> None:
    arrays = load(golden, "patch.npz")
    patch = cut_patches(arrays["image"], 16, Patches(arrays["scales"], arrays["offsets"]))
    assert_matches(patch, arrays["patch"])


def _camera(**values: float) -> Tensor:
    defaults = dict(yaw=0.0, pitch=math.pi / 2, roll=0.0, fov=30.0, radius=1.0)
    row = [(defaults | values).get(name, 0.0) for name in CAMERA_FIELDS]
    return torch.tensor([row], dtype=torch.float64)


def test_frontal_camera_sits_on_the_z_axis_and_looks_back() -> None:
    pose = cam2world(_camera())[0]
    assert torch.allclose(pose, torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]]).double())


def test_pitch_runs_down_from_the_pole() -> None:
    above = spherical_to_cartesian(*torch.tensor([0.0, 0.1, 2.0]).double())
    assert torch.allclose(above, torch.tensor([0, 2 * math.cos(0.1), 2 * math.sin(0.1)]).double())


def test_rotations_are_rotations() -> None:
    generator = torch.Generator().manual_seed(0)
    cameras = torch.rand(50, 8, dtype=torch.float64, generator=generator) + 0.3
    rotation = cam2world(cameras)[:, :3, :3]
    assert torch.allclose(rotation @ rotation.transpose(1, 2), torch.eye(3).double().expand(50, 3, 3), atol=1e-12)
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(50).double())


def test_central_ray_hits_the_look_at_point() -> None:
    camera = _camera(yaw=0.7, pitch=1.2, look_at_yaw=-2.0, look_at_pitch=0.6, look_at_radius=0.2)
    origins, directions = rays(camera, 3)
    target = spherical_to_cartesian(
        *(camera[0, CAMERA_FIELDS.index(f"look_at_{x}")] for x in ("yaw", "pitch", "radius"))
    )
    to_target = target - origins[0, 4]
    assert torch.allclose(directions[0, 4], to_target / to_target.norm())


def test_roll_turns_the_image_about_its_centre() -> None:
    _, straight = rays(_camera(), 3)
    _, turned = rays(_camera(roll=math.pi / 2), 3)
    # A quarter turn counter-clockwise of the camera moves what its top row (y = 1) sees to the left (x = -1).
    assert torch.allclose(turned[0, 1], straight[0, 3])
    assert torch.allclose(turned[0, 4], straight[0, 4])


def test_field_of_view_is_the_full_angle_between_opposite_edges() -> None:
    _, directions = rays(_camera(fov=40.0), 3)
    angle = torch.arccos((directions[0, 3] * directions[0, 5]).sum())
    assert math.isclose(math.degrees(angle.item()), 40.0, rel_tol=1e-9)


def test_patch_of_the_whole_image_is_the_whole_image() -> None:
    whole = Patches(torch.ones(1, 2), torch.zeros(1, 2))
    assert torch.equal(image_plane(5), image_plane(5, whole))
    picture = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(cut_patches(picture, 5, whole), picture, atol=1e-6)


def test_offsets_count_from_the_left_and_from_the_bottom() -> None:
    picture = torch.arange(16.0).reshape(1, 1, 4, 4)
    scale = torch.full((1, 2), 1 / 3)  # two of four pixels: a third of the distance between the outermost centers
    lower_left = cut_patches(picture, 2, Patches(scale, torch.zeros(1, 2)))
    assert torch.allclose(lower_left[0, 0], picture[0, 0, 2:, :2], atol=1e-5)
    upper_right = cut_patches(picture, 2, Patches(scale, torch.full((1, 2), 2 / 3)))
    assert torch.allclose(upper_right[0, 0], picture[0, 0, :2, 2:], atol=1e-5)

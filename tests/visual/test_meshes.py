"""Meshes of a sphere whose radius is known, and what a camera sees."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh

from threedgp.camera.priors import frontal_cameras
from threedgp.config import CameraConfig
from threedgp.visual.meshes import extract_mesh, opaque_density, seen_points, write_mesh

RADIUS, RESOLUTION = 0.3, 48
SPACING = 1 / (RESOLUTION - 1)


def soft_sphere(points: torch.Tensor) -> torch.Tensor:
    """Density 20 on the sphere, falling outwards."""
    return 20 * torch.exp(20 * (RADIUS - points.norm(dim=1)))


def position_as_color(points: torch.Tensor) -> torch.Tensor:
    return points / 0.5


@pytest.fixture(scope="module")
def sphere() -> trimesh.Trimesh:
    return extract_mesh(soft_sphere, position_as_color, 0.5, RESOLUTION, level=20.0)


def test_sphere_has_its_radius_and_is_closed(sphere):
    distances = np.linalg.norm(sphere.vertices, axis=1)
    assert np.abs(distances - RADIUS).max() < 0.1 * SPACING  # interpolated between grid points
    assert sphere.is_watertight
    assert sphere.volume == pytest.approx(4 / 3 * math.pi * RADIUS**3, rel=0.01)  # positive: normals point outwards


def test_vertices_take_the_color_of_their_place(sphere):
    expected = (sphere.vertices / 0.5 + 1) / 2 * 255
    assert np.abs(sphere.visual.vertex_colors[:, :3] - expected).max() <= 1


@pytest.mark.parametrize("suffix", [".glb", ".ply"])
def test_files_read_back(tmp_path, sphere, suffix):
    write_mesh(tmp_path / f"mesh{suffix}", sphere)
    again = trimesh.load(tmp_path / f"mesh{suffix}", force="mesh", process=False)
    assert len(again.faces) == len(sphere.faces)
    np.testing.assert_allclose(again.bounds, sphere.bounds, atol=1e-6)
    np.testing.assert_array_equal(again.visual.vertex_colors, sphere.visual.vertex_colors)
    first = (tmp_path / f"mesh{suffix}").read_bytes()
    write_mesh(tmp_path / f"mesh{suffix}", sphere)
    assert (tmp_path / f"mesh{suffix}").read_bytes() == first


def test_solid_cube_is_closed_at_its_sides():
    cube = extract_mesh(lambda points: torch.full((len(points),), 100.0), position_as_color, 0.5, 8)
    assert cube.is_watertight
    assert cube.volume == pytest.approx(1, rel=0.03)  # edges are cut off


def test_level_of_a_thin_scene_is_below_its_largest_density():
    fog = extract_mesh(lambda points: soft_sphere(points).clamp(max=1), position_as_color, 0.5, 24)
    assert len(fog.faces)


def test_opaque_density_absorbs_half_the_light():
    assert math.exp(-opaque_density(0.5) * 1 / 16) == pytest.approx(0.5)


def test_seen_points():
    """The frontal camera on +z, a field of view of 27.5 degrees, between 0.75 and 1.25."""
    cameras = frontal_cameras(CameraConfig(), 1)
    edge = math.tan(math.radians(27.5 / 2))
    points = torch.tensor([[0, 0, 0], [0, 0, 0.3], [0, 0, -0.3], [0.99 * edge, 0, 0], [1.01 * edge, 0, 0], [0, 0, 1.8]])
    assert seen_points(cameras, points, near=0.75, far=1.25).tolist() == [True, False, False, True, False, False]
    behind = frontal_cameras(CameraConfig(), 1)
    behind[0, 0] = math.pi
    both = torch.cat([cameras, behind])
    assert seen_points(both, points[1:3], near=0.5, far=1.25).tolist() == [True, True]

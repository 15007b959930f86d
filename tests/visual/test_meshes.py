"""Meshes of a sphere whose radius is known, of a generated scene, and what a camera sees."""

from __future__ import annotations

import json
import math
import struct

import numpy as np
import pytest
import torch
import trimesh

from threedgp.camera.priors import frontal_cameras
from threedgp.config import CameraConfig
from threedgp.models.sampler import sample_scenes
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import Progress
from threedgp.visual.meshes import NoSurface, extract_mesh, linear_colors, scene_mesh, seen_points, write_mesh
from threedgp.visual.styles import scene_content
from threedgp.visual.views import posterior_cameras

RADIUS, RESOLUTION = 0.3, 48
SPACING = 1 / (RESOLUTION - 1)


def soft_sphere(points: torch.Tensor) -> torch.Tensor:
    """Density 20 on the sphere, falling outwards."""
    return 20 * torch.exp(20 * (RADIUS - points.norm(dim=1)))


def position_as_color(points: torch.Tensor) -> torch.Tensor:
    return points / 0.5


@pytest.fixture(scope="module")
def bar() -> Progress:
    return Progress()


@pytest.fixture(scope="module")
def sphere(bar) -> trimesh.Trimesh:
    return extract_mesh(soft_sphere, position_as_color, 0.5, RESOLUTION, 20.0, bar)


def test_sphere_has_its_radius_and_is_closed(sphere):
    distances = np.linalg.norm(sphere.vertices, axis=1)
    assert np.abs(distances - RADIUS).max() < 0.1 * SPACING  # interpolated between grid points
    assert sphere.is_watertight
    assert sphere.volume == pytest.approx(4 / 3 * math.pi * RADIUS**3, rel=0.01)  # positive: normals point outwards


def test_vertices_take_the_color_of_their_place(sphere):
    expected = (sphere.vertices / 0.5 + 1) / 2 * 255
    assert np.abs(sphere.visual.vertex_colors[:, :3] - expected).max() <= 1


@pytest.mark.parametrize("suffix", [".glb", ".ply", ".obj"])
def test_files_read_back(tmp_path, sphere, suffix):
    write_mesh(tmp_path / f"mesh{suffix}", sphere)
    again = trimesh.load(tmp_path / f"mesh{suffix}", force="mesh", process=False, skip_materials=True)
    assert len(again.faces) == len(sphere.faces)
    np.testing.assert_allclose(again.vertices, sphere.vertices, atol=1e-6)
    expected = sphere.visual.vertex_colors
    np.testing.assert_array_equal(again.visual.vertex_colors, linear_colors(expected) if suffix == ".glb" else expected)
    assert trimesh.load(tmp_path / f"mesh{suffix}", force="mesh").is_watertight  # also to programs that merge vertices
    first = (tmp_path / f"mesh{suffix}").read_bytes()
    write_mesh(tmp_path / f"mesh{suffix}", sphere)
    assert (tmp_path / f"mesh{suffix}").read_bytes() == first


def test_gltf_is_not_metal(tmp_path, sphere):
    """Without a material, a surface of glTF 2.0 is metal, which scatters no light."""
    write_mesh(tmp_path / "mesh.glb", sphere)
    data = (tmp_path / "mesh.glb").read_bytes()
    (length,) = struct.unpack("<I", data[12:16])
    content = json.loads(data[20 : 20 + length])
    ((primitive,),) = (mesh["primitives"] for mesh in content["meshes"])
    surface = content["materials"][primitive["material"]]["pbrMetallicRoughness"]
    assert surface["metallicFactor"] == 0 and surface.get("roughnessFactor", 1) == 1
    assert surface.get("baseColorFactor", [1, 1, 1, 1]) == [1, 1, 1, 1] and "baseColorTexture" not in surface
    assert set(primitive["attributes"]) == {"POSITION", "COLOR_0"}


def test_gltf_colors_are_linear_light():
    """Black, white, and the sRGB value of 188, which is half of the light (0.5 of 255 is 127.5)."""
    colors = np.array([[0, 255, 188, 255], [1, 10, 128, 255]], np.uint8)
    np.testing.assert_array_equal(linear_colors(colors), [[0, 255, 128, 255], [0, 1, 55, 255]])


def test_solid_cube_is_closed_at_its_sides(bar, tmp_path):
    cube = extract_mesh(lambda points: torch.full((len(points),), 100.0), position_as_color, 0.5, 8, 10.0, bar)
    assert cube.is_watertight
    assert cube.volume == pytest.approx(1, rel=0.03)  # edges are cut off
    np.testing.assert_allclose(cube.bounds, [[-0.5] * 3, [0.5] * 3], atol=1 / 7 / 32)
    write_mesh(tmp_path / "cube.ply", cube)
    assert trimesh.load(tmp_path / "cube.ply", force="mesh").is_watertight


def test_nothing_dense_enough_is_told(bar):
    with pytest.raises(UserError, match="nothing in the scene is as dense as level 20"):
        extract_mesh(lambda points: torch.ones(len(points)), position_as_color, 0.5, 8, 20.0, bar)


def test_a_level_beyond_single_precision_is_a_level(bar):
    """All matter is denser than a tiny level, none than a huge one."""
    ball = extract_mesh(
        lambda points: (points.norm(dim=1) < RADIUS).float(), position_as_color, 0.5, RESOLUTION, 1e-300, bar
    )
    assert ball.is_watertight and np.abs(np.linalg.norm(ball.vertices, axis=1) - RADIUS).max() < 2 * SPACING
    with pytest.raises(NoSurface, match=r"as dense as level 1e\+300"):
        extract_mesh(soft_sphere, position_as_color, 0.5, 8, 1e300, bar)


def test_an_empty_scene_is_told(bar, tiny_generator, monkeypatch):
    scenes = sample_scenes(tiny_generator, 1, seed=0)
    planes, cameras = scene_content(tiny_generator, scenes), posterior_cameras(tiny_generator, scenes)
    monkeypatch.setattr(tiny_generator, "density", lambda planes, points: torch.zeros(points.shape[:2]))
    with pytest.raises(NoSurface, match="the scene is empty"):
        scene_mesh(tiny_generator, planes, cameras, 8, bar)


def test_scene_mesh_is_the_scene(bar, tiny_generator):
    """Vertices have the chosen density and the field's own colors, and are seen; of the whole cube there is more."""
    scenes = sample_scenes(tiny_generator, 1, seed=0)
    planes, cameras = scene_content(tiny_generator, scenes), posterior_cameras(tiny_generator, scenes)
    settings = tiny_generator.ray_settings
    middle = (
        tiny_generator.density(planes, torch.rand(1, 4096, 3, generator=torch.manual_seed(0)) - 0.5).median().item()
    )
    mesh = scene_mesh(tiny_generator, planes, cameras, 24, bar, level=middle)
    whole = scene_mesh(tiny_generator, planes, cameras, 24, bar, level=middle, whole_cube=True)
    assert mesh.is_watertight and whole.is_watertight
    assert 0 < mesh.volume < whole.volume
    points = torch.tensor(whole.vertices, dtype=torch.float32)
    inner = points.abs().amax(dim=1) < 0.49
    density = tiny_generator.density(planes, points[None])[0]
    # Between grid points the field bends: a tenth of its range in the cube is far below a mistaken axis or level.
    spread = tiny_generator.density(planes, points[None] * 0.9)[0].std().item() + 0.1 * middle
    assert (density[inner] - middle).abs().max() < spread
    colors = tiny_generator.color(planes, points[None])[0] * 127.5 + 127.5
    assert np.abs(whole.visual.vertex_colors[:, :3] - colors.clamp(0, 255).numpy()).max() <= 0.51
    seen = seen_points(cameras, torch.tensor(mesh.vertices * 0.999, dtype=torch.float32), settings.near, settings.far)
    assert seen.float().mean() > 0.3


def test_default_level_finds_a_surface(bar, tiny_generator):
    scenes = sample_scenes(tiny_generator, 1, seed=3)
    planes, cameras = scene_content(tiny_generator, scenes), posterior_cameras(tiny_generator, scenes)
    assert len(scene_mesh(tiny_generator, planes, cameras, 16, bar).faces)


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
    # What one camera has before its near plane would hide the scene from it in a mesh.
    assert seen_points(both, points[1:3], near=0.75, far=1.4).tolist() == [False, False]

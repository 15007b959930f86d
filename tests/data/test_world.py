"""The procedural world against independent truths: scalar formulas and dense sampling along rays."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from threedgp.data.world.cameras import camera_axes, draw_camera, image_plane, ray_directions
from threedgp.data.world.rendering import FAR, render_background, render_picture
from threedgp.data.world.scenes import CLASS_NAMES, draw_scene
from threedgp.data.world.shapes import RING, SHAPES, TUBE

Array = NDArray[np.float64]

# Where each solid is, written down without regard to rays.
INSIDE: dict[str, Callable[[Array, Array, Array], NDArray[np.bool_]]] = {
    "sphere": lambda x, y, z: x**2 + y**2 + z**2 < 1,
    "box": lambda x, y, z: np.maximum(np.maximum(abs(x), abs(y)), abs(z)) < 1,
    "cylinder": lambda x, y, z: (np.hypot(x, z) < 1) & (abs(y) < 1),
    "cone": lambda x, y, z: (np.hypot(x, z) < (1 - y) / 2) & (y > -1),
    "torus": lambda x, y, z: np.hypot(np.hypot(x, z) - RING, y) < TUBE,
    "octahedron": lambda x, y, z: abs(x) + abs(y) + abs(z) < 1,
}


def scalar_ray(camera: Array, x: float, y: float) -> tuple[list[float], list[float]]:
    """Origin and unit direction by the formulas of the model page, one number at a time."""
    yaw, pitch, _, fov, radius, look_yaw, look_pitch, look_radius = (float(value) for value in camera)

    def point(yaw: float, pitch: float, r: float) -> list[float]:
        return [r * math.sin(pitch) * math.sin(-yaw), r * math.cos(pitch), r * math.sin(pitch) * math.cos(yaw)]

    def unit(v: list[float]) -> list[float]:
        length = math.sqrt(sum(value * value for value in v))
        return [value / length for value in v]

    def cross(a: list[float], b: list[float]) -> list[float]:
        return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]

    origin, target = point(yaw, pitch, radius), point(look_yaw, look_pitch, look_radius)
    forward = unit([t - o for t, o in zip(target, origin, strict=True)])
    left = unit(cross([0.0, 1.0, 0.0], forward))
    up = unit(cross(forward, left))
    in_camera = unit([x, y, -1 / math.tan(math.radians(fov) / 2)])
    columns = ([-value for value in left], up, [-value for value in forward])
    return origin, [sum(column[i] * in_camera[k] for k, column in enumerate(columns)) for i in range(3)]


def test_rays_follow_the_formulas() -> None:
    random, plane = np.random.default_rng(1), image_plane(5)
    np.testing.assert_array_equal(plane[:, [0, 4, 12, 20]], [[-1, 1, 0, -1], [1, 1, 0, -1]])
    for _ in range(20):
        camera = draw_camera(random)
        origin, axes = camera_axes(camera)
        directions = ray_directions(axes, plane)
        for column, (x, y) in enumerate(plane.T):
            expected_origin, expected = scalar_ray(camera, x, y)
            np.testing.assert_allclose(origin, expected_origin, atol=1e-12)
            np.testing.assert_allclose(directions[:, column], expected, atol=1e-12)


def test_rays_are_those_of_the_model() -> None:
    import torch

    from threedgp.camera.geometry import rays

    cameras = np.stack([draw_scene(3, index).camera for index in range(8)])
    origins, directions = rays(torch.tensor(cameras), 16)
    for camera, its_origins, its_directions in zip(cameras, origins.numpy(), directions.numpy(), strict=True):
        origin, axes = camera_axes(camera)
        np.testing.assert_allclose(its_origins[0], origin, atol=1e-12)
        np.testing.assert_allclose(its_directions.T, ray_directions(axes, image_plane(16)), atol=1e-12)


def test_depth_of_a_sphere_in_closed_form() -> None:
    scene = next(scene for scene in (draw_scene(0, index) for index in range(99)) if scene.label == 0)
    _, depth = render_picture(scene, 33)
    origin, _ = camera_axes(scene.camera)
    radius = np.linalg.norm(scene.to_world[:, 0])
    for row in range(33):
        for column in range(33):
            _, direction = scalar_ray(scene.camera, -1 + column / 16, 1 - row / 16)
            along = float(np.dot(direction, scene.centre - origin))
            miss = float(np.sum((scene.centre - origin) ** 2)) - along**2
            expected = along - math.sqrt(radius**2 - miss) if miss < radius**2 else FAR
            assert depth[row, column] == pytest.approx(expected, abs=1e-6)  # float32
    assert 0.05 < (depth < FAR).mean() < 0.7


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_shapes_against_dense_sampling(name: str) -> None:
    random = np.random.default_rng(len(name))
    step = 1e-3
    for _ in range(6):
        origin = random.normal(size=3)
        origin *= random.uniform(3, 6) / np.linalg.norm(origin)
        directions = random.uniform(-1.2, 1.2, (3, 300)) - origin[:, None]
        distances, normals = SHAPES[name](origin, directions)
        t = np.arange(0.3, 1.7, step)
        points = origin[:, None, None] + t * directions[:, :, None]
        inside = INSIDE[name](*points)
        first = np.where(inside.any(axis=1), t[np.argmax(inside, axis=1)], np.inf)
        hit = np.isfinite(distances)
        # Rays that graze the solid may be judged either way: their chord is shorter than a step or a torus' probe.
        chord = inside.sum(axis=1)
        assert hit[chord > 40].all() and (chord[~hit] <= 40).all()
        both = hit & np.isfinite(first)
        assert (first[both] >= distances[both] - 1e-6).all()
        assert (first[both] - distances[both] <= step + 1e-6)[chord[both] > 40].all()
        # Normals point out: against the ray, and a step along them leaves the solid.
        there = origin[:, None] + distances[hit] * directions[:, hit]
        out = normals[:, hit] / np.linalg.norm(normals[:, hit], axis=0)
        assert (np.sum(out * directions[:, hit], axis=0) <= 1e-6).all()
        assert not INSIDE[name](*(there + 1e-4 * out)).any()


def test_depends_on_seed_and_number_only() -> None:
    first, again, other = (render_picture(draw_scene(seed, 5), 24) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any()


def test_what_the_world_is_like() -> None:
    scenes = [draw_scene(0, index) for index in range(300)]
    assert {scene.label for scene in scenes} == set(range(len(CLASS_NAMES))) and len(CLASS_NAMES) >= 6
    cameras = np.stack([scene.camera for scene in scenes])
    # Narrower than the uniform prior (deviations 0.91 and 0.45), and looking down.
    assert 0.3 < cameras[:, 0].std() < 0.4 and abs(cameras[:, 0].mean()) < 0.08
    assert 0.1 < cameras[:, 1].std() < 0.14 and abs(cameras[:, 1].mean() - (np.pi / 2 - 0.2)) < 0.03
    assert 20 <= cameras[:, 3].min() and cameras[:, 3].max() <= 30
    assert (cameras[:, 4] == 1).all() and 0 <= cameras[:, 7].min() and cameras[:, 7].max() <= 0.1

    pictures, depths = (
        np.stack(part) for part in zip(*(render_picture(scene, 16) for scene in scenes[:100]), strict=True)
    )
    covered = (depths < FAR).mean(axis=(1, 2))
    assert 0.15 < np.percentile(covered, 10) and np.percentile(covered, 90) < 0.5
    assert depths.min() > 0.75 and depths[depths < FAR].max() < FAR
    backgrounds = np.stack([render_background(scene, 16) for scene in scenes[:100]])
    contrast = np.abs(pictures.astype(int) - backgrounds).max(axis=-1)
    assert np.median(contrast[depths < FAR]) > 60
    corner = depths[:, 0, 0] == FAR
    assert np.median(contrast[corner, 0, 0]) == 0

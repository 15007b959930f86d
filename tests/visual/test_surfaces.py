"""Surfaces are closed and have the right size; the level is that of the rendered depth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh

from threedgp.camera.priors import frontal_cameras
from threedgp.config import CameraConfig
from threedgp.runtime.progress import Progress
from threedgp.visual import surfaces


def surface(density, resolution: int, level: float) -> trimesh.Trimesh:
    return trimesh.Trimesh(*surfaces.level_set(density, 0.5, resolution, level, Progress()), process=False)


def noise(resolution: int, seed: int = 0):
    """A field of independent values at the points of the grid: the hardest topology there is."""
    values = torch.as_tensor(np.random.default_rng(seed).exponential(1, (resolution,) * 3), dtype=torch.float32)

    def density(points: torch.Tensor) -> torch.Tensor:
        index = ((points + 0.5) * (resolution - 1)).round().long()
        return values[index[:, 0], index[:, 1], index[:, 2]]

    return density


@pytest.mark.parametrize("seed", range(4))
def test_noise_is_watertight_with_normals_outwards(seed):
    mesh = surface(noise(12, seed), 12, level=1.0)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume > 0


def test_values_on_the_level_give_no_triangle_without_area():
    """A field of three values, the middle one the level itself, so that whole faces of the grid lie on it."""
    values = torch.as_tensor(np.random.default_rng(1).integers(0, 3, (10, 10, 10)), dtype=torch.float32)

    def density(points: torch.Tensor) -> torch.Tensor:
        index = ((points + 0.5) * 9).round().long()
        return values[index[:, 0], index[:, 1], index[:, 2]]

    mesh = surface(density, 10, level=1.0)
    assert mesh.is_watertight
    assert len(np.unique(mesh.vertices.astype(np.float32), axis=0)) == len(mesh.vertices)
    assert mesh.area_faces.min() > 0


def test_empty_space_has_no_surface():
    assert len(surface(lambda points: torch.zeros(len(points)), 8, level=1.0).faces) == 0


def test_exponential_fall_off_is_met_between_grid_points():
    """The error is far below the spacing, although density grows e-fold every two steps."""
    steep = 60.0
    mesh = surface(lambda points: 5 * torch.exp(steep * (0.3 - points.norm(dim=1))), 32, level=5.0)
    radii = np.linalg.norm(mesh.vertices, axis=1)
    assert np.abs(radii - 0.3).max() < 0.05 / 31
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * 0.3**3, rel=0.01)


NEAR, FAR, RADIUS = 0.5, 1.5, 0.3


@pytest.fixture(scope="module")
def cameras() -> torch.Tensor:
    cameras = frontal_cameras(CameraConfig(), 3)
    cameras[1, 0], cameras[2, 0] = 0.5, -0.5
    return cameras


@pytest.mark.parametrize("sharpness", [20.0, 60.0])
def test_soft_ball_gets_the_level_of_its_depth(cameras, sharpness):
    """Density grows exponentially inwards, s exp(s (RADIUS - r)): along a ray through the middle the optical depth is
    exp(s (RADIUS - r)), light is absorbed with the density of a Gumbel variable, and the mean depth lies Euler's
    constant over s before the point of optical depth 1, where the density is s: at density s exp(-0.577)."""

    def density(points: torch.Tensor) -> torch.Tensor:
        return sharpness * torch.exp(sharpness * (RADIUS - points.norm(dim=1)))

    level = surfaces.surface_level(density, cameras, NEAR, FAR)
    # A level to either side is a quarter off at these densities; slanting rays meet less dense matter first.
    place = RADIUS - torch.tensor(level / sharpness).log().item() / sharpness
    expected = RADIUS + 0.577 / sharpness
    assert place == pytest.approx(expected, abs=0.5 / sharpness)


def test_fog_around_a_ball_does_not_count(cameras):
    def density(points: torch.Tensor) -> torch.Tensor:
        return torch.where(points.norm(dim=1) < RADIUS, 200.0, 0.3)

    assert 0.3 < surfaces.surface_level(density, cameras, NEAR, FAR) < 200


def test_thin_and_empty_space(cameras):
    thin = surfaces.surface_level(lambda points: torch.full((len(points),), 0.01), cameras, NEAR, FAR)
    assert 0 < thin < 0.01
    assert surfaces.surface_level(lambda points: torch.zeros(len(points)), cameras, NEAR, FAR) == 0

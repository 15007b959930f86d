"""The level's surface lies where the rendered depth is."""

from __future__ import annotations

import pytest
import torch

from threedgp.camera.priors import frontal_cameras
from threedgp.config import CameraConfig
from threedgp.visual.levels import surface_level

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

    level = surface_level(density, cameras, NEAR, FAR)
    # A level to either side is a quarter off at these densities; slanting rays meet less dense matter first.
    place = RADIUS - torch.tensor(level / sharpness).log().item() / sharpness
    expected = RADIUS + 0.577 / sharpness
    assert place == pytest.approx(expected, abs=0.5 / sharpness)


def test_fog_around_a_ball_does_not_count(cameras):
    def density(points: torch.Tensor) -> torch.Tensor:
        return torch.where(points.norm(dim=1) < RADIUS, 200.0, 0.3)

    assert 0.3 < surface_level(density, cameras, NEAR, FAR) < 200


def test_thin_and_empty_space(cameras):
    thin = surface_level(lambda points: torch.full((len(points),), 0.01), cameras, NEAR, FAR)
    assert 0 < thin < 0.01
    assert surface_level(lambda points: torch.zeros(len(points)), cameras, NEAR, FAR) == 0

"""Prior cameras: bounds and moments of every preset."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from threedgp.camera.geometry import CAMERA_FIELDS, LEARNED
from threedgp.camera.priors import PRIOR_DRAWS, frontal_cameras, prior_cameras
from threedgp.config import CameraConfig
from threedgp.data.shuffle import FOV_PROBABILITIES
from threedgp.runtime.counter_rng import uniform
from threedgp.runtime.errors import UserError

COUNT = 20_000
U = uniform((COUNT, PRIOR_DRAWS), 0, "prior test")
# A Kolmogorov-Smirnov distance of n draws exceeds 1.95 / sqrt(n) once in a thousand times; the seed is fixed.
BOUND = 1.95 / math.sqrt(COUNT)


def _column(config: CameraConfig, name: str) -> torch.Tensor:
    return prior_cameras(config, U)[:, CAMERA_FIELDS.index(name)]


def _distance(values: torch.Tensor, law: object) -> float:
    return stats.kstest(values.double().numpy(), law.cdf).statistic


def _between(low: float, high: float) -> object:
    return stats.uniform(low, high - low)


def test_uniform_prior_is_the_published_one() -> None:
    config = CameraConfig()
    assert _distance(_column(config, "yaw"), _between(-math.pi / 2, math.pi / 2)) < BOUND
    assert _distance(_column(config, "pitch"), _between(math.pi / 4, 3 * math.pi / 4)) < BOUND
    assert _distance(_column(config, "fov"), _between(10, 45)) < BOUND
    assert _distance(_column(config, "look_at_radius"), _between(0, 0.2)) < BOUND
    assert (_column(config, "radius") == 1).all() and (_column(config, "roll") == 0).all()


def test_parameters_are_independent() -> None:
    ranks = prior_cameras(CameraConfig(), U)[:, list(LEARNED)].argsort(dim=0).argsort(dim=0)
    assert (torch.corrcoef(ranks.double().T) - torch.eye(len(LEARNED))).abs().max() < 4 / math.sqrt(COUNT)


def test_look_at_direction_is_uniform_on_the_sphere() -> None:
    config = CameraConfig()
    # Archimedes: the height of a uniform point on the sphere is uniform.
    assert _distance(torch.cos(_column(config, "look_at_pitch")), _between(-1, 1)) < BOUND
    assert _distance(_column(config, "look_at_yaw"), _between(-math.pi, math.pi)) < BOUND


def test_truncated_normal_prior() -> None:
    config = CameraConfig(prior="truncated_normal", yaw=(-0.6, 0.6), yaw_std=0.4, pitch_std=0.2)
    law = stats.truncnorm(-1.5, 1.5, scale=0.4)
    yaw = _column(config, "yaw")
    assert _distance(yaw, law) < BOUND
    assert yaw.abs().max() <= 0.6 + 1e-6
    law = stats.truncnorm(-math.pi / 0.8, math.pi / 0.8, loc=math.pi / 2, scale=0.2)
    assert _distance(_column(config, "pitch"), law) < BOUND


def test_normal_prior_of_epigraf() -> None:
    config = CameraConfig(prior="normal", yaw_std=0.6, pitch_std=0.3, fov=(12, 12), look_at_radius=(0, 0))
    assert _distance(_column(config, "yaw"), stats.norm(0, 0.6)) < BOUND
    assert _distance(_column(config, "pitch"), stats.norm(math.pi / 2, 0.3)) < BOUND
    assert (_column(config, "fov") == 12).all() and (_column(config, "look_at_radius") == 0).all()


def test_estimated_prior_follows_the_estimates_of_each_class() -> None:
    """Fields of view have the distribution of their class, everything else that of the uniform prior."""
    random = np.random.default_rng(0)
    estimates = [mean * np.exp(0.15 * random.normal(size=5000)) for mean in (15.0, 28.0)]
    grid = torch.tensor(np.stack([np.quantile(one, FOV_PROBABILITIES) for one in estimates]), dtype=torch.float32)
    config = CameraConfig(prior="estimated", fov=(5.0, 80.0))
    for one, quantiles in zip(estimates, grid, strict=True):
        cameras = prior_cameras(config, U, quantiles.expand(COUNT, -1))
        fov = cameras[:, CAMERA_FIELDS.index("fov")].double().numpy()
        # 0.005 beyond the outermost quantiles, less between the others, and the noise of the draws.
        assert stats.ks_2samp(fov, one).statistic < 0.01 + BOUND
        assert fov.mean() == pytest.approx(one.mean(), rel=0.01) and fov.std() == pytest.approx(one.std(), rel=0.05)
        cameras[:, CAMERA_FIELDS.index("fov")] = _column(CameraConfig(fov=(5.0, 80.0)), "fov")
        assert torch.equal(cameras, prior_cameras(CameraConfig(fov=(5.0, 80.0)), U))


def test_estimates_beyond_the_bounds_are_clamped() -> None:
    quantiles = torch.tensor([[5.0, 60.0]]).expand(COUNT, -1)
    fov = prior_cameras(CameraConfig(prior="estimated", fov=(10, 45)), U, quantiles)[:, CAMERA_FIELDS.index("fov")]
    assert fov.min() == 10 and fov.max() == 45 and (fov == 10).double().mean() == pytest.approx(5 / 55, rel=0.1)


def test_estimated_prior_without_estimates() -> None:
    with pytest.raises(UserError, match=r"camera\.prior: 'estimated' needs the fields of view of training images"):
        prior_cameras(CameraConfig(prior="estimated"), U)


@pytest.mark.parametrize("prior", ["uniform", "normal", "truncated_normal", "fixed"])
def test_extreme_draws_stay_finite_and_off_the_poles(prior: str) -> None:
    u = torch.tensor([[0.0] * PRIOR_DRAWS, [1 - 2.0**-24] * PRIOR_DRAWS])
    cameras = prior_cameras(CameraConfig(prior=prior, pitch_std=1.0), u)
    assert torch.isfinite(cameras).all()
    pitch = cameras[:, CAMERA_FIELDS.index("pitch")]
    assert ((pitch > 0) & (pitch < math.pi)).all()


def test_fixed_prior_is_the_frontal_camera() -> None:
    config = CameraConfig(prior="fixed", yaw=(-0.25, 0.75), pitch=(1.0, 2.0), fov=(10, 40), radius=1.5)
    middle = torch.tensor([0.25, 1.5, 0.0, 25.0, 1.5, 0.0, math.pi / 2, 0.0])
    assert torch.equal(prior_cameras(config, U[:3]), middle.expand(3, -1))
    assert torch.equal(frontal_cameras(config, 3), middle.expand(3, -1))

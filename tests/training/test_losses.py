"""Losses and camera regularizers against closed forms and naive computations."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import pytest
import torch

from threedgp.camera.geometry import CAMERA_FIELDS, FOV, LOOK_AT_RADIUS, PITCH, YAW
from threedgp.camera.priors import PRIOR_DRAWS, prior_cameras
from threedgp.config import CameraConfig
from threedgp.config.train import CameraRegularizerConfig
from threedgp.models.generator import Scenes
from threedgp.runtime.counter_rng import uniform
from threedgp.training.losses import (
    EMD_DRAWS,
    MEAN_DRAWS,
    camera_loss,
    discriminator_loss,
    distillation_loss,
    emd_regularizer,
    generator_loss,
    gradient_penalty,
    gradient_regularizer,
    mean_angle_distance,
    transport_cost,
)


def test_logistic_losses() -> None:
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0])
    softplus = lambda x: math.log1p(math.exp(x))  # noqa: E731
    assert generator_loss(fake).item() == pytest.approx((softplus(-0.5) + softplus(3.0)) / 2)
    expected = (softplus(-2.0) + softplus(1.0)) / 2 + (softplus(0.5) + softplus(-3.0)) / 2
    assert discriminator_loss(real, fake).item() == pytest.approx(expected)


def test_relativistic_losses_compare_pairs() -> None:
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0])
    softplus = lambda x: math.log1p(math.exp(x))  # noqa: E731
    assert generator_loss(fake, real).item() == pytest.approx((softplus(1.5) + softplus(2.0)) / 2)
    assert discriminator_loss(real, fake, "relativistic").item() == pytest.approx((softplus(-1.5) + softplus(-2.0)) / 2)


def test_r1_of_a_quadratic_critic() -> None:
    # D(x) = sum a x^2 has gradient 2 a x: the penalty is gamma / 2 * mean of |2 a x|^2, its derivative known.
    x = torch.randn(3, 4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    penalty = gradient_penalty((a * x.square()).sum(dim=(1, 2, 3)), x, gamma=0.05)
    square = x.detach().square().sum().item() / 3
    assert penalty.item() == pytest.approx(0.05 / 2 * 4 * 0.7**2 * square)
    penalty.backward()
    assert a.grad.item() == pytest.approx(0.05 / 2 * 8 * 0.7 * square)


def test_l2_distillation_weighs_by_patch_scale() -> None:
    predicted = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    stored = torch.zeros(2, 2)
    scales = torch.tensor([1.0, 0.25])
    # Norms 5 and 1, weights 1 and 0.25 over their mean 0.625.
    expected = (5 * 1 / 0.625 + 1 * 0.25 / 0.625) / 2
    assert distillation_loss(predicted, stored, scales, scales.mean(), "l2").item() == pytest.approx(expected)


def test_kl_distillation() -> None:
    predicted, stored = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[1.0, -1.0, 0.5]])
    soft = lambda v: [math.exp(x) / sum(map(math.exp, v)) for x in v]  # noqa: E731
    p, q = soft([1.0, -1.0, 0.5]), soft([0.0, 1.0, 2.0])
    expected = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    one = torch.ones(1)
    assert distillation_loss(predicted, stored, one, one, "kl").item() == pytest.approx(expected, rel=1e-5)
    assert distillation_loss(stored, stored, one, one, "kl").item() == pytest.approx(0, abs=1e-6)


def test_transport_cost_is_the_best_of_all_assignments() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(6, generator=generator).double(), torch.randn(6, generator=generator).double()
    best = min((a - b[list(order)]).square().mean().item() for order in itertools.permutations(range(6)))
    assert transport_cost(a, b).item() == pytest.approx(best, rel=1e-12)


def test_emd_weighs_each_parameter() -> None:
    config = CameraRegularizerConfig()
    prior = torch.zeros(64, len(CAMERA_FIELDS))
    for index, weight, shift in ((YAW, 2, 0.5), (PITCH, 2, 0.5), (FOV, 1e-4, 10.0), (LOOK_AT_RADIUS, 1e-4, 0.1)):
        posterior = prior.clone()
        posterior[:, index] += shift
        assert emd_regularizer(posterior, prior, config).item() == pytest.approx(weight * shift**2, rel=1e-5)
    posterior = prior.clone()
    posterior[:, CAMERA_FIELDS.index("radius")] += 1  # weight 0
    assert emd_regularizer(posterior, prior, config).item() == 0


def test_emd_punishes_collapse_and_not_permutation() -> None:
    prior = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    assert emd_regularizer(prior.flip(0), prior, CameraRegularizerConfig()).item() == 0
    assert emd_regularizer(prior.mean(dim=0).expand(64, 8), prior, CameraRegularizerConfig()).item() > 1


def test_emd_of_classes_does_not_exchange_fields_of_view_between_them() -> None:
    """The cost of the best assignment within each class, although one across them is free."""
    labels = torch.arange(64) % 2
    prior = torch.zeros(64, 8)
    prior[:, FOV] = 15 + 20.0 * labels + torch.linspace(0, 1, 64)
    posterior = prior.clone()
    posterior[:, FOV] = 50 - prior[:, FOV] + 1
    config = CameraRegularizerConfig(fov_weight=0.5)
    costs = [
        (posterior[labels == label, FOV].sort().values - prior[labels == label, FOV].sort().values).square().mean()
        for label in (0, 1)
    ]
    expected = 0.5 * sum(costs).item() / 2
    assert emd_regularizer(posterior, prior, config, labels).item() == pytest.approx(expected, rel=1e-5)
    assert emd_regularizer(posterior, prior, config).item() < expected / 100


def test_emd_of_many_classes_is_as_exact_as_that_of_few() -> None:
    labels = torch.arange(64) * 15
    prior = torch.full((64, 8), 30.0)
    posterior = prior + 2.0**-8
    config = CameraRegularizerConfig(fov_weight=1.0, yaw_weight=0.0, pitch_weight=0.0, look_at_weight=0.0)
    assert emd_regularizer(posterior, prior, config, labels).item() == pytest.approx(2.0**-16, rel=1e-6)


def test_gradient_regularizer_of_a_linear_map() -> None:
    config = CameraRegularizerConfig(
        kind="gradient", yaw_weight=0.3, pitch_weight=0.2, fov_weight=0.03, look_at_weight=0.003
    )
    slopes = torch.tensor([0.5, -2.0, 1.0, 0.0, 1.0, 3.0, 0.1, 1.0])
    prior = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    expected = sum(
        weight * (abs(slope) + 1 / (abs(slope) + 1e-4))
        for weight, slope in zip((0.3, 0.2, 0, 0.03, 0, 0.003, 0.003, 0.003), slopes.tolist(), strict=True)
    )
    posterior_of = lambda c: c * slopes + c.roll(1, dims=1)  # noqa: E731, another parameter's influence does not count
    assert gradient_regularizer(posterior_of, prior, config).item() == pytest.approx(expected, rel=1e-5)


def test_camera_loss_transports_the_first_draws_and_centers_all() -> None:
    camera, config = CameraConfig(), CameraRegularizerConfig()
    prior = prior_cameras(camera, uniform((MEAN_DRAWS, PRIOR_DRAWS), 0, "camera loss"))
    posterior = prior.clone()
    posterior[:, YAW] = prior[:, YAW] / 2 + 0.1  # grows with the prior, so that every camera is transported to its own
    generator = SimpleNamespace(posterior=lambda *_: posterior, camera_config=camera, fov_quantiles=None)
    loss, _, cameras = camera_loss(generator, Scenes(prior, None, prior), config, ramp=0.25)
    cost = (posterior - prior)[:EMD_DRAWS, YAW].square().mean()
    distance = (posterior.mean(dim=0) - torch.tensor([0, math.pi / 2, 0, 0, 0, 0, 0, 0]))[:3].norm()
    expected = 0.25 * config.yaw_weight * cost + config.mean_angle_weight * distance
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.equal(cameras, posterior)


def test_mean_angle_distance() -> None:
    posterior = torch.zeros(4, 8)
    posterior[:, YAW] = torch.tensor([0.0, 0.2, 0.4, 0.6])
    posterior[:, PITCH] = math.pi / 2 + 0.4
    assert mean_angle_distance(posterior, (0.0, math.pi / 2, 0.0)).item() == pytest.approx(0.5, rel=1e-5)


def test_mean_angle_distance_has_a_finite_gradient_at_zero() -> None:
    posterior = torch.zeros(4, 8, requires_grad=True)
    mean_angle_distance(posterior, (0.0, 0.0, 0.0)).backward()
    assert torch.isfinite(posterior.grad).all()

"""Losses against closed forms and naive sums."""

from __future__ import annotations

import math

import pytest
import torch

from threedgp.training.losses import discriminator_loss, distillation_loss, generator_loss, r1_penalty


def test_logistic_losses() -> None:
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0])
    softplus = lambda x: math.log1p(math.exp(x))  # noqa: E731
    assert generator_loss(fake).item() == pytest.approx((softplus(-0.5) + softplus(3.0)) / 2)
    expected = (softplus(-2.0) + softplus(1.0)) / 2 + (softplus(0.5) + softplus(-3.0)) / 2
    assert discriminator_loss(real, fake).item() == pytest.approx(expected)


def test_r1_of_a_quadratic_critic() -> None:
    # D(x) = sum a x^2 has gradient 2 a x: the penalty is gamma / 2 * mean of |2 a x|^2, its derivative known.
    x = torch.randn(3, 4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    penalty = r1_penalty((a * x.square()).sum(dim=(1, 2, 3)), x, gamma=0.05)
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

"""Contraction of space and its inverse: their definitions, that each inverts the other, and their derivatives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from threedgp.render import Decoder, contract, field_at_points, uncontract


def _points(count: int = 400) -> Tensor:
    """Float64 points at radii from 1e-3 to 1e3, in all directions, half of them inside the unit ball."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(count, 3, dtype=torch.float64, generator=generator)
    radii = torch.logspace(-3, 3, count, dtype=torch.float64)[:, None]
    return radii * directions / directions.norm(dim=-1, keepdim=True)


def _defined(point: list[float]) -> list[float]:
    """Mip-NeRF 360, equation 10, in Python floats."""
    radius = math.hypot(*point)
    return point if radius <= 1 else [(2 - 1 / radius) * (x / radius) for x in point]


def _defined_inverse(point: list[float]) -> list[float]:
    radius = math.hypot(*point)
    return point if radius <= 1 else [x / radius / (2 - radius) for x in point]


def test_both_match_their_definitions() -> None:
    points = _points()
    contracted = contract(points)
    for point, inside in zip(points.tolist(), contracted.tolist(), strict=True):
        assert inside == pytest.approx(_defined(point), rel=1e-12, abs=1e-15)
    for point, outside in zip(contracted.tolist(), uncontract(contracted).tolist(), strict=True):
        assert outside == pytest.approx(_defined_inverse(point), rel=1e-9, abs=1e-15)  # 2 - |y| cancels, to 1e-3 here


def test_each_inverts_the_other() -> None:
    points = _points()
    # A relative error of 1e-16 in |y| is one of 1e-16 / (2 - |y|) = 1e-13 at radius 1000.
    assert torch.allclose(uncontract(contract(points)), points, rtol=1e-12, atol=0)
    inside = _points() * (1.999 / 1e3)
    assert torch.allclose(contract(uncontract(inside)), inside, rtol=1e-12, atol=0)


def test_radii_increase_and_stay_below_2() -> None:
    radii = contract(_points()).norm(dim=-1)
    assert (radii < 2).all()
    assert (radii.diff() > 0).all()
    assert radii[-1].item() == pytest.approx(2 - 1e-3)


def test_known_values() -> None:
    points = torch.tensor([[0.0, 0.0, 0.0], [0.6, 0.0, 0.8], [2.0, 0.0, 0.0], [0.0, -4.0, 0.0]]).double()
    expected = torch.tensor([[0.0, 0.0, 0.0], [0.6, 0.0, 0.8], [1.5, 0.0, 0.0], [0.0, -1.75, 0.0]]).double()
    assert torch.allclose(contract(points), expected, rtol=0, atol=1e-15)
    assert torch.allclose(uncontract(expected), points, rtol=0, atol=1e-14)
    assert uncontract(torch.tensor([2.0, 0.0, 0.0]))[0].isinf()


def test_derivatives() -> None:
    points = _points(20).requires_grad_()
    assert torch.autograd.gradcheck(contract, points)
    inside = contract(_points(12)[:9]).detach().requires_grad_()
    assert torch.autograd.gradcheck(uncontract, inside)
    center = torch.zeros(1, 3, requires_grad=True)
    assert torch.autograd.grad(contract(center).sum(), center)[0].tolist() == [[1.0, 1.0, 1.0]]


def test_the_field_is_sampled_at_contracted_points() -> None:
    generator = torch.Generator().manual_seed(2)
    planes = torch.randn(1, 3, 9, 7, 4, dtype=torch.float64, generator=generator)
    shapes = ((6, 4), (6,), (4, 6), (4,))
    decoder = Decoder(*(torch.randn(s, dtype=torch.float64, generator=generator) for s in shapes))
    points = _points()[None]
    far = field_at_points(planes, decoder, points * 0.7, half_width=0.7, contraction=True)
    near = field_at_points(planes, decoder, contract(points) / 2, half_width=1.0)
    assert torch.allclose(far, near, rtol=1e-12, atol=1e-12)

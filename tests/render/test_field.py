"""The tri-plane field against the published arrays, its definition and finite differences."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from golden_arrays import assert_matches, load
from threedgp.render import Backend, Decoder, field_along_rays, field_at_points
from threedgp.render.field import plane_features


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_matches_the_published_one_with_gradients(golden: Path, backend: Backend) -> None:
    arrays = load(golden, "field.npz")
    planes = arrays["planes"].permute(0, 1, 3, 4, 2).contiguous().requires_grad_()
    points = arrays["points"].requires_grad_()
    names = ("0.weight", "0.bias", "1.weight", "1.bias")
    weights = [arrays[f"decoder/model.{name}"].requires_grad_() for name in names]
    # Equalised learning rate: the stored weights are used over the square root of the number of inputs.
    hidden, features = weights[0].shape
    decoder = Decoder(weights[0] / math.sqrt(features), weights[1], weights[2] / math.sqrt(hidden), weights[3])
    out = field_at_points(planes, decoder, points, half_width=arrays["half_width"].item(), backend=backend)
    assert_matches(out, arrays["out"])
    (out * arrays["grad_out"]).sum().backward()
    assert_matches(planes.grad.permute(0, 1, 4, 2, 3), arrays["grad_planes"])
    assert_matches(points.grad, arrays["grad_points"])
    for weight, name in zip(weights, names, strict=True):
        assert_matches(weight.grad, arrays[f"grad_decoder/model.{name}"])


def _by_tent_functions(planes: Tensor, points: Tensor, half_width: float) -> Tensor:
    """The definition: every texel times a tent function of its distance, summed over the plane."""

    def tents(coordinate: Tensor, size: int) -> Tensor:
        position = (coordinate / half_width + 1) / 2 * (size - 1)
        return (1 - (position[..., None] - torch.arange(size)).abs()).clamp(min=0)

    total = 0
    for plane, (across, up) in enumerate(((0, 1), (0, 2), (1, 2))):
        columns, rows = tents(points[..., across], planes.shape[3]), tents(points[..., up], planes.shape[2])
        total = total + torch.einsum("bnh,bnw,bhwc->bnc", rows, columns, planes[:, plane])
    return total / 3


@pytest.mark.parametrize("shape", [(1, 3, 4, 4, 8), (2, 3, 7, 5, 3), (3, 3, 16, 2, 33)])
def test_features_are_bilinear_on_planes_of_any_shape(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    planes = torch.randn(shape, dtype=torch.float64, generator=generator)
    # Half of the points lie outside of the cube, some of them between its border and one texel beyond.
    points = torch.randn(shape[0], 300, 3, dtype=torch.float64, generator=generator) * 0.7
    points[:, :8] = torch.tensor([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    assert torch.allclose(plane_features(planes, points, 0.5), _by_tent_functions(planes, points, 0.5), atol=1e-12)


def _scene(generator: torch.Generator) -> tuple[Tensor, Decoder]:
    planes = torch.randn(2, 3, 5, 6, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    shapes = ((7, 4), (7,), (4, 7), (4,))
    decoder = Decoder(*(torch.randn(s, dtype=torch.float64, generator=generator, requires_grad=True) for s in shapes))
    return planes, decoder


def test_gradcheck_along_rays() -> None:
    generator = torch.Generator().manual_seed(1)
    planes, decoder = _scene(generator)
    origins = torch.randn(2, 3, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    directions = torch.randn(2, 3, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    distances = torch.rand(2, 3, 4, dtype=torch.float64, generator=generator)

    def run(planes: Tensor, origins: Tensor, directions: Tensor, *weights: Tensor) -> Tensor:
        return field_along_rays(planes, Decoder(*weights), origins, directions, distances, half_width=0.8)

    assert torch.autograd.gradcheck(run, (planes, origins, directions, *decoder))


def test_every_gradient_flows() -> None:
    generator = torch.Generator().manual_seed(2)
    planes, decoder = _scene(generator)
    origins = torch.zeros(2, 3, 3, dtype=torch.float64, requires_grad=True)
    directions = torch.randn(2, 3, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    distances = torch.rand(2, 3, 4, dtype=torch.float64, generator=generator)
    field_along_rays(planes, decoder, origins, directions, distances, half_width=0.8).square().sum().backward()
    for tensor in (planes, origins, directions, *decoder):
        assert tensor.grad.abs().max() > 0


def test_far_outside_features_are_zero() -> None:
    planes, decoder = _scene(torch.Generator().manual_seed(3))
    out = field_at_points(planes, decoder, torch.full((2, 1, 3), 1e30).double(), half_width=0.5)
    empty = field_at_points(torch.zeros_like(planes), decoder, torch.zeros(2, 1, 3).double(), half_width=0.5)
    assert torch.allclose(out, empty)


@pytest.mark.parametrize(
    ("planes", "points", "message"),
    [
        ((2, 3, 8, 4, 4), (2, 5, 2), r"points: expected \[2, N, 3\], got \[2, 5, 2\]"),
        ((2, 3, 8, 4), (2, 5, 3), r"planes: expected \[B, 3, H, W, C\], got \[2, 3, 8, 4\]"),
        ((2, 3, 8, 4, 6), (2, 5, 3), r"decoder: takes 4 features, planes have 6"),
    ],
)
def test_wrong_shapes_are_named(planes: tuple[int, ...], points: tuple[int, ...], message: str) -> None:
    decoder = Decoder(torch.zeros(7, 4), torch.zeros(7), torch.zeros(4, 7), torch.zeros(4))
    with pytest.raises(ValueError, match=message):
        field_at_points(torch.zeros(planes), decoder, torch.zeros(points), half_width=0.5)

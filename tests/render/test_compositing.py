"""Compositing against the published arrays, a naive loop and closed forms."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from golden_arrays import assert_matches, load
from threedgp.render import Backend, composite


@pytest.mark.parametrize("infinite", [False, True])
@pytest.mark.parametrize("last_back", [False, True])
@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_matches_the_published_one_with_gradients(
    golden: Path, infinite: bool, last_back: bool, backend: Backend
) -> None:
    arrays = load(golden, f"composite_inf{infinite:d}_lastback{last_back:d}.npz")
    samples = torch.cat([arrays["color"], arrays["sigma_raw"]], dim=-1).requires_grad_()
    options = dict(infinite_last_interval=infinite, last_back=last_back, backend=backend)
    seen = composite(samples, arrays["t"][..., 0], **options)
    assert_matches(seen.rgb, arrays["rgb"])
    assert_matches(seen.depth, arrays["depth"][..., 0])
    assert_matches(seen.weights, arrays["weights"][..., 0])
    assert_matches(seen.transmittance, arrays["final_transmittance"])
    ((seen.rgb * arrays["grad_rgb"]).sum() + (seen.depth * arrays["grad_depth"][..., 0]).sum()).backward()
    assert_matches(samples.grad[..., :3], arrays["grad_color"])
    assert_matches(samples.grad[..., 3:], arrays["grad_sigma_raw"])


def _naive(samples: Tensor, distances: Tensor, last: float) -> tuple[list[float], float]:
    """One ray, one sample at a time, in Python floats."""
    rgb, depth, light = [0.0, 0.0, 0.0], 0.0, 1.0
    for i, (r, g, b, raw) in enumerate(samples.tolist()):
        delta = distances[i + 1].item() - distances[i].item() if i + 1 < len(distances) else last
        alpha = 1 - math.exp(-math.log1p(math.exp(raw)) * delta)
        rgb = [total + light * alpha * c for total, c in zip(rgb, (r, g, b), strict=True)]
        depth += light * alpha * distances[i].item()
        light *= 1 - alpha + 1e-10
    return rgb, depth


@pytest.mark.parametrize("count", [1, 2, 7])
def test_matches_a_naive_loop(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    samples = torch.randn(5, count, 4, dtype=torch.float64, generator=generator) * 3
    distances = torch.rand(5, count, dtype=torch.float64, generator=generator).sort(dim=-1).values
    seen = composite(samples, distances, infinite_last_interval=False)
    for ray in range(5):
        rgb, depth = _naive(samples[ray], distances[ray], last=1e-3)
        assert seen.rgb[ray].tolist() == pytest.approx(rgb, rel=1e-12)
        assert seen.depth[ray].item() == pytest.approx(depth, rel=1e-12)


def test_constant_density_has_a_closed_form() -> None:
    # Constant density s over [0, 1] lets exp(-s) of the light through (Beer and Lambert).
    raw = math.log(math.expm1(2.0))
    samples = torch.tensor([[1.0, 0.5, 0.0, raw]]).double().repeat(101, 1)[None]
    distances = torch.linspace(0, 1, 101).double()[None]
    seen = composite(samples, distances, infinite_last_interval=False)
    expected = 1 - math.exp(-2.0 * 1.001)
    assert seen.rgb[0].tolist() == pytest.approx([expected, expected / 2, 0.0], rel=1e-6)
    assert seen.transmittance.item() == pytest.approx(1 - expected, rel=1e-5)


def test_the_infinite_last_interval_is_1e10() -> None:
    # softplus(-20) = 2.06e-9 over 1e10: a depth of 20.6, after which 1e-9 of the light is left
    samples = torch.tensor([[[1.0, 1.0, 1.0, -20.0]]]).double()
    depth = math.log1p(math.exp(-20.0)) * 1e10
    for raw, expected in ((-20.0, depth), (-25.0, math.log1p(math.exp(-25.0)) * 1e10)):
        samples[..., 3] = raw
        seen = composite(samples, torch.ones(1, 1).double())
        assert seen.transmittance.item() == pytest.approx(math.exp(-expected) + 1e-10, rel=1e-6)
        assert seen.weights.item() == pytest.approx(1 - math.exp(-expected), rel=1e-9)


def test_opaque_first_sample_hides_the_rest_without_bad_gradients() -> None:
    samples = torch.tensor([[[1.0, 0.0, 0.0, 1e4], [0.0, 1.0, 0.0, 1e4], [0.0, 0.0, 1.0, 0.0]]], requires_grad=True)
    seen = composite(samples, torch.tensor([[1.0, 2.0, 3.0]]))
    assert torch.allclose(seen.rgb, torch.tensor([[1.0, 0.0, 0.0]]), atol=1e-6)
    (seen.rgb.sum() + seen.depth.sum()).backward()
    assert torch.isfinite(samples.grad).all()


def test_empty_ray_with_finite_end_sees_nothing_and_last_back_fills_it() -> None:
    samples = torch.tensor([[[1.0, 0.0, 0.0, -50.0], [0.0, 1.0, 0.0, -50.0]]])
    distances = torch.tensor([[1.0, 1.2]])
    assert composite(samples, distances, infinite_last_interval=False).rgb.abs().max() < 1e-6
    filled = composite(samples, distances, infinite_last_interval=False, last_back=True)
    assert torch.allclose(filled.rgb, torch.tensor([[0.0, 1.0, 0.0]]), atol=1e-6)
    assert filled.depth.item() == pytest.approx(1.2)


def test_gradcheck() -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    distances = torch.rand(2, 3, 5, dtype=torch.float64, generator=generator).sort(dim=-1).values
    assert torch.autograd.gradcheck(lambda s: composite(s, distances)[:3], samples)


def _naive_of_eg3d(samples: Tensor, distances: Tensor) -> tuple[list[float], float]:
    """EG3D's compositing of one ray, one interval at a time, in Python floats: midpoints, bias -1, sigmoid, white."""
    squash = lambda c: 1.002 / (1 + math.exp(-c)) - 0.001  # noqa: E731
    rgb, depth, light, total = [0.0, 0.0, 0.0], 0.0, 1.0, 0.0
    rows, places = samples.tolist(), distances.tolist()
    for i in range(len(rows) - 1):
        raw = (rows[i][3] + rows[i + 1][3]) / 2 - 1
        alpha = 1 - math.exp(-math.log1p(math.exp(raw)) * (places[i + 1] - places[i]))
        weight = light * alpha
        color = [(squash(a) + squash(b)) / 2 for a, b in zip(rows[i][:3], rows[i + 1][:3], strict=True)]
        rgb = [sum_ + weight * c for sum_, c in zip(rgb, color, strict=True)]
        depth += weight * (places[i] + places[i + 1]) / 2
        total += weight
        light *= 1 - alpha + 1e-10
    return [(c + 1 - total) * 2 - 1 for c in rgb], depth


@pytest.mark.parametrize("count", [2, 7])
def test_midpoint_compositing_matches_a_naive_loop(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    samples = torch.randn(5, count, 4, dtype=torch.float64, generator=generator) * 3
    distances = torch.rand(5, count, dtype=torch.float64, generator=generator).sort(dim=-1).values
    seen = composite(samples, distances, midpoint=True, density_bias=-1.0, sigmoid_color=True, white_background=True)
    for ray in range(5):
        rgb, depth = _naive_of_eg3d(samples[ray], distances[ray])
        assert seen.rgb[ray].tolist() == pytest.approx(rgb, rel=1e-12, abs=1e-12)
        assert seen.depth[ray].item() == pytest.approx(depth, rel=1e-12)


def test_empty_rays_show_the_white_background() -> None:
    samples = torch.tensor([[[0.0, 0.0, 0.0, -50.0], [0.0, 0.0, 0.0, -50.0]]])
    seen = composite(samples, torch.tensor([[1.0, 1.2]]), infinite_last_interval=False, white_background=True)
    assert torch.allclose(seen.rgb, torch.ones(1, 3), atol=1e-6)

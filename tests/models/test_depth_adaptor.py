"""Depth adaptor: scaling, the law by which candidates are drawn, the switches."""

from __future__ import annotations

import math

import pytest
import torch

from threedgp.camera.priors import prior_cameras
from threedgp.config import CameraConfig, DepthAdaptorConfig
from threedgp.models.depth_adaptor import DepthAdaptor
from threedgp.runtime.counter_rng import uniform


def _adaptor(channels: int = 4, **settings: object) -> DepthAdaptor:
    return DepthAdaptor(DepthAdaptorConfig(channels=channels, **settings), near=0.75, far=1.25, w_dim=6)


def test_scaling_runs_from_the_learned_near_plane_to_the_far_end() -> None:
    adaptor = _adaptor()
    offset = 0.25 * 0.5 / (1 + math.exp(3))
    assert adaptor.near_offset().item() == pytest.approx(offset, rel=1e-6)
    ends = adaptor.scale(torch.tensor([0.75 + offset, 1.25]))
    assert ends.tolist() == pytest.approx([-1.0, 1.0], abs=1e-6)


@pytest.mark.parametrize(
    ("raw", "expected"),
    # Four candidates: p_i = p_0 + i d with 4 p_0 + 6 d = 1.
    [(0.25, [0.25, 0.25, 0.25, 0.25]), (0.1, [0.1, 0.2, 0.3, 0.4]), (0.175, [0.175, 0.225, 0.275, 0.325])],
)
def test_probabilities_rise_linearly_and_sum_to_one(raw: float, expected: list[float]) -> None:
    assert _adaptor().selection_probabilities(raw) == pytest.approx(expected)


def _frequencies(adaptor: DepthAdaptor, raw: float, count: int = 20_000) -> torch.Tensor:
    candidates = torch.arange(adaptor.num_candidates).float().reshape(1, -1, 1, 1, 1).expand(count, -1, -1, -1, -1)
    chosen = adaptor.select(candidates, uniform((count,), 0, "selection test"), raw)
    return torch.bincount(chosen.flatten().long(), minlength=adaptor.num_candidates) / count


@pytest.mark.parametrize("raw", [0.25, 0.1])
def test_draws_follow_the_probabilities(raw: float) -> None:
    adaptor = _adaptor()
    expected = torch.tensor(adaptor.selection_probabilities(raw))
    # Four standard errors of a share of 20,000 draws are at most 4 * 0.5 / sqrt(20000) = 0.014; the seed is fixed.
    assert (_frequencies(adaptor, raw) - expected).abs().max() < 0.0142


def test_half_shows_scaled_or_adapted_depth() -> None:
    shares = _frequencies(_adaptor(mode="half"), 0.25)
    assert (shares - torch.tensor([0.5, 0, 0, 0.5])).abs().max() < 0.0142


def test_off_has_nothing_to_choose_and_no_convolutions() -> None:
    adaptor = _adaptor(mode="off")
    depth = torch.rand(2, 1, 8, 8) * 0.5 + 0.75
    candidates = adaptor(depth)
    assert candidates.shape == (2, 1, 1, 8, 8)
    assert torch.equal(adaptor.select(candidates, torch.rand(2), 0.25), adaptor.scale(depth))
    assert [name for name, _ in adaptor.named_parameters()] == ["near_offset_raw"]


def test_differences_of_an_inverted_and_of_a_flat_scene() -> None:
    adaptor = _adaptor(mode="all")
    depth = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    candidates = torch.stack([torch.cat([0.5 * depth, depth * 0]), *[torch.cat([-depth, depth])] * 3], dim=1)
    found = adaptor.differences(candidates, 0.25)
    deviation = depth.std(correction=0).item()
    assert found["adapted_correlation"].item() == pytest.approx(-0.5)  # the mean of -1 and, of a flat one, 0
    assert found["depth_deviation"].item() == pytest.approx(deviation / 4)
    assert found["adapted_deviation"].item() == pytest.approx(deviation)


def test_differences_count_a_candidate_as_often_as_it_is_shown() -> None:
    adaptor = _adaptor(mode="all")
    depth = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    candidates = torch.stack([depth, depth, 2 * depth, -4 * depth], dim=1)
    deviation = depth.std(correction=0).item()
    for raw_probability, correlation, factor in [(0.5, 1.0, 4 / 3), (0.25, 1 / 3, 7 / 3)]:  # 2 : 1 : 0 and 1 : 1 : 1
        found = adaptor.differences(candidates, raw_probability)
        assert found["adapted_correlation"].item() == pytest.approx(correlation)
        assert found["adapted_deviation"].item() == pytest.approx(factor * deviation)


def test_evaluation_takes_the_last_candidate() -> None:
    adaptor = _adaptor()
    candidates = adaptor(torch.rand(2, 1, 8, 8))
    assert torch.equal(adaptor.select(candidates, None, 0.25), candidates[:, 3])


def _images(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random depth `[B, 1, 8, 8]`, styles and cameras."""
    cameras = prior_cameras(CameraConfig(), uniform((count, 6), 0, "cameras"))
    depth = uniform((count, 1, 8, 8), 0, "depth") * 0.5 + 0.75
    return depth, uniform((count, 6), 0, "styles") * 4 - 2, cameras


def _random_affine() -> DepthAdaptor:
    torch.manual_seed(0)
    adaptor = _adaptor(mode="affine")
    torch.nn.init.normal_(adaptor.coefficients[1].weight, std=2)
    return adaptor


def test_affine_starts_with_the_scaled_depth() -> None:
    adaptor, (depth, w, cameras) = _adaptor(mode="affine"), _images(3)
    candidates = adaptor(depth, w, cameras)
    assert torch.equal(candidates, adaptor.scale(depth)[:, None])
    assert torch.equal(adaptor.select(candidates, torch.rand(3), 0.25), candidates[:, 0])
    assert not [name for name, _ in adaptor.named_parameters() if "layers" in name or "head" in name]


def test_affine_scales_by_a_bounded_positive_factor_and_shifts() -> None:
    """The least-squares line through adapted over scaled depth of an image leaves nothing."""
    adaptor, (depth, w, cameras) = _random_affine(), _images(64)
    scaled, adapted = adaptor.scale(depth).flatten(1), adaptor(depth, w, cameras).flatten(1)
    design = torch.stack([scaled, torch.ones_like(scaled)], dim=2)
    line = torch.linalg.lstsq(design, adapted[:, :, None]).solution
    assert torch.allclose((design @ line)[..., 0], adapted, atol=1e-4)
    factors = line[:, 0, 0]
    assert 0.499 < factors.min() < 0.8 and 1.25 < factors.max() < 2.001


@pytest.mark.parametrize("changed", ["styles", "yaw", "fov"])
def test_affine_coefficients_are_those_of_the_image_not_of_the_patch(changed: str) -> None:
    adaptor, (depth, w, cameras) = _random_affine(), _images(5)
    other = depth.flip(0) * 0.9  # other depth, same images
    at = lambda maps: adaptor.scale(maps)[:, None]  # noqa: E731
    first, second = adaptor(depth, w, cameras), adaptor(other, w, cameras)
    factor = (first - second) / (at(depth) - at(other))
    assert torch.allclose(factor, factor.mean(dim=(1, 2, 3, 4), keepdim=True).expand_as(factor), rtol=1e-3)
    if changed == "styles":
        w = w.flip(0)
    else:
        cameras = cameras.clone()
        column = {"yaw": 0, "fov": 3}[changed]
        cameras[:, column] = cameras[:, column].flip(0)
    assert (adaptor(depth, w, cameras) - first).abs().max() > 0.01


def test_affine_learns_the_scale_and_shift_of_each_image() -> None:
    torch.manual_seed(0)
    adaptor, (depth, w, cameras) = _adaptor(channels=32, mode="affine"), _images(8)
    factors, shifts = (torch.linspace(0.6, 1.8, 8).roll(3), torch.linspace(-0.5, 0.5, 8).roll(5))
    scaled = adaptor.scale(depth).detach()
    target = scaled * factors.view(-1, 1, 1, 1) + shifts.view(-1, 1, 1, 1)
    optimizer = torch.optim.Adam(adaptor.coefficients.parameters(), lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        loss = (adaptor(depth, w, cameras)[:, 0] - target).square().mean()
        loss.backward()
        optimizer.step()
    ends = adaptor(torch.tensor([[0.9], [1.1]]).view(2, 1, 1, 1).expand(2, 8, 8, 8).flatten(0, 1)[:, None],
                   w.repeat(2, 1), cameras.repeat(2, 1))[:, 0, 0, 0, 0].view(2, 8)  # fmt: skip
    width = 0.2 / (1.25 - 0.75 - adaptor.near_offset().item()) * 2
    assert torch.allclose((ends[1] - ends[0]) / width, factors, atol=0.02)
    assert loss < 1e-4


def test_affine_teaches_geometry_but_neither_styles_nor_cameras() -> None:
    adaptor, inputs = _random_affine(), [x.requires_grad_() for x in _images(2)]
    adaptor(*inputs).square().sum().backward()
    depth, w, cameras = inputs
    assert depth.grad.abs().min() > 0 and w.grad is None and cameras.grad is None
    assert all(parameter.grad.abs().max() > 0 for parameter in adaptor.parameters())

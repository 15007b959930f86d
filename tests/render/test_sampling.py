"""Distances along rays: the published arrays, statistics, and order."""

from __future__ import annotations

from pathlib import Path

import torch

from golden_arrays import assert_matches, load
from threedgp.render import importance_distances, merge_samples, stratified_distances
from threedgp.render.sampling import stratified_inverse_distances


def test_importance_matches_the_published_one(golden: Path) -> None:
    arrays = load(golden, "importance.npz")
    assert_matches(importance_distances(arrays["t_coarse"], arrays["weights"], arrays["u"]), arrays["t_fine"])


def test_stratified_cells_meet_and_cover_the_ray() -> None:
    lower = stratified_distances(torch.zeros(1, 5), 1.0, 2.0)[0]
    upper = stratified_distances(torch.ones(1, 5), 1.0, 2.0)[0]
    assert torch.allclose(lower, torch.tensor([1.0, 1.125, 1.375, 1.625, 1.875]))
    assert torch.allclose(upper, torch.tensor([1.125, 1.375, 1.625, 1.875, 2.0]))


def test_inverse_distances_fall_from_one_to_almost_zero() -> None:
    first = stratified_inverse_distances(torch.zeros(1, 5))[0]
    last = stratified_inverse_distances(torch.ones(1, 5))[0]
    assert torch.allclose(first, torch.tensor([1.0, 0.875, 0.625, 0.375, 0.125]))
    assert torch.allclose(last, torch.tensor([0.875, 0.625, 0.375, 0.125, 1e-4]))


def test_importance_follows_the_weights() -> None:
    # All weight on sample 3 of 8: fine distances lie between the midpoints around it, evenly.
    distances = torch.linspace(0, 7, 8)[None]
    weights = torch.zeros(1, 8)
    weights[0, 3] = 1.0
    u = (torch.arange(1000)[None] + 0.5) / 1000
    fine = importance_distances(distances, weights, u)
    inside = (fine > 2.5) & (fine < 3.5)
    assert inside.float().mean() > 0.999  # the rest is the floor of 2e-5 under every weight
    assert abs(fine[inside].mean().item() - 3.0) < 1e-3


def test_importance_of_empty_rays_is_uniform_over_the_inner_bins() -> None:
    fine = importance_distances(torch.linspace(0, 1, 9)[None], torch.zeros(1, 9), torch.tensor([[0.0, 0.5, 0.999999]]))
    assert torch.allclose(fine, torch.tensor([[1 / 16, 0.5, 15 / 16]]), atol=1e-5)


def test_importance_of_two_distances_is_their_middle() -> None:
    # The only bin lies between the only midpoint and itself.
    fine = importance_distances(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.3, 0.7]]), torch.tensor([[0.1, 0.9]]))
    assert fine.tolist() == [[2.0, 2.0]]


def test_importance_carries_no_gradient() -> None:
    weights = torch.rand(2, 6, requires_grad=True)
    assert not importance_distances(torch.linspace(0, 1, 6).expand(2, 6), weights, torch.rand(2, 4)).requires_grad


def test_merge_sorts_and_keeps_samples_with_their_distances() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(3, 4, generator=generator), torch.rand(3, 5, generator=generator)
    distances, samples = merge_samples((first, second), (first[..., None] * 2, second[..., None] * 2))
    assert torch.equal(distances, torch.cat([first, second], dim=-1).sort(dim=-1).values)
    assert torch.equal(samples[..., 0], distances * 2)


def test_merge_keeps_the_order_of_equal_distances() -> None:
    at = torch.zeros(1, 3)
    values = torch.arange(6.0).reshape(2, 1, 3, 1)
    assert merge_samples((at, at), (values[0], values[1]))[1].flatten().tolist() == [0, 1, 2, 3, 4, 5]

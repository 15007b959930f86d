"""Depth adaptor: scaling, the law by which candidates are drawn, the switches."""

from __future__ import annotations

import math

import pytest
import torch

from threedgp.config import DepthAdaptorConfig
from threedgp.models.depth_adaptor import DepthAdaptor
from threedgp.runtime.counter_rng import uniform


def _adaptor(**settings: object) -> DepthAdaptor:
    return DepthAdaptor(DepthAdaptorConfig(channels=4, **settings), near=0.75, far=1.25)


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


def test_evaluation_takes_the_last_candidate() -> None:
    adaptor = _adaptor()
    candidates = adaptor(torch.rand(2, 1, 8, 8))
    assert torch.equal(adaptor.select(candidates, None, 0.25), candidates[:, 3])

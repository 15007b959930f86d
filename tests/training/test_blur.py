"""Blur against the published arrays and a direct sum."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from golden_arrays import assert_matches, load
from threedgp.training.patches import blur


@pytest.mark.parametrize(("sigma", "name"), [(1.0, "out_1"), (2.5, "out_2_5")])
def test_matches_the_published_one(golden: Path, sigma: float, name: str) -> None:
    arrays = load(golden, "blur.npz")
    assert_matches(blur(arrays["image"], sigma), arrays[name])


def test_a_single_pixel_shows_the_kernel() -> None:
    image = torch.zeros(1, 1, 15, 15).double()
    image[0, 0, 7, 5] = 1
    sigma, radius = 1.4, 4
    weights = {i: 2 ** -((i / sigma) ** 2) for i in range(-radius, radius + 1)}
    total = sum(weights.values())
    out = blur(image, sigma)
    for row in range(15):
        for column in range(15):
            expected = weights.get(row - 7, 0) * weights.get(column - 5, 0) / total**2
            assert out[0, 0, row, column].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_less_than_a_pixel_is_no_blur(sigma: float) -> None:
    image = torch.rand(1, 4, 8, 8)
    assert blur(image, sigma) is image


def test_wider_than_the_image_works() -> None:
    assert torch.isfinite(blur(torch.rand(1, 4, 16, 16), 10.0)).all()

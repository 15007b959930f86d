"""Depth in 16 bits."""

from __future__ import annotations

import numpy as np
import pytest

from threedgp.depth.encoding import encode
from threedgp.depth.estimator import Rejected

RNG = np.random.default_rng(0)


def test_min_max() -> None:
    depth = RNG.normal(size=(8, 8)).astype(np.float32)
    encoded = encode(depth, 8)
    expected = (depth.astype(np.float64) - depth.min()) / (float(depth.max()) - float(depth.min())) * 65535
    assert encoded.dtype == np.uint16 and encoded.min() == 0 and encoded.max() == 65535
    assert np.abs(encoded - expected).max() <= 0.5 + 1e-6


def test_larger_is_farther() -> None:
    encoded = encode(np.linspace(0.75, 1.25, 64, dtype=np.float32).reshape(8, 8), 8)
    assert (np.diff(encoded.ravel().astype(int)) > 0).all()


def test_scale_and_shift_do_not_matter() -> None:
    depth = RNG.random((16, 16)).astype(np.float32)
    assert np.abs(encode(depth, 8).astype(int) - encode(depth * 30 - 5, 8)).max() <= 2  # float32 rounding


def test_area_average_comes_first() -> None:
    depth = RNG.random((16, 16)).astype(np.float32)
    means = depth.reshape(8, 2, 8, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(encode(depth, 8), encode(means, 8), atol=1)


def test_percentile_clip_saves_the_rest_from_an_outlier() -> None:
    depth = RNG.random((20, 20)).astype(np.float32)
    depth[0, 0] = 1000
    assert np.median(encode(depth, 20)) < 100
    clipped = encode(depth, 20, clip_percentile=1)
    assert 25_000 < np.median(clipped) < 40_000
    low, high = np.percentile(depth, [1, 99])
    np.testing.assert_array_equal(clipped == 65535, depth >= high)
    np.testing.assert_array_equal(clipped[depth <= low], 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(value: float) -> None:
    depth = RNG.random((8, 8)).astype(np.float32)
    depth[3, 3] = value
    assert encode(depth, 4) == Rejected("the depth map has values that are not finite")


@pytest.mark.parametrize("value", [0.0, 1.25, 1e30])
def test_constant(value: float) -> None:
    assert encode(np.full((8, 8), value, np.float32), 4) == Rejected("the depth map is constant")

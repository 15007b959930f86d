"""Errors after alignment against least squares."""

from __future__ import annotations

import numpy as np
import pytest

from threedgp.metrics.depth_consistency import aligned_error, measure

MAPS = np.random.default_rng(0).uniform(1, 2, (4, 6, 6))


def test_scale_and_shift_do_not_matter_and_the_order_of_near_and_far_does():
    np.testing.assert_allclose(aligned_error(3 * MAPS + 7, MAPS), 0, atol=1e-7)
    np.testing.assert_array_equal(aligned_error(-MAPS, MAPS), 1)


def test_against_least_squares():
    target = MAPS[:1] + 0.3 * np.random.default_rng(1).normal(size=(1, 6, 6))
    design = np.stack([MAPS[0].ravel(), np.ones(36)], axis=1)
    left, *_ = np.linalg.lstsq(design, target.ravel(), rcond=None)
    expected = np.sqrt(np.mean((design @ left - target.ravel()) ** 2)) / target.std()
    assert aligned_error(MAPS[:1], target)[0] == pytest.approx(expected, rel=1e-12)
    assert aligned_error(target, MAPS[:1])[0] == pytest.approx(expected, rel=1e-12)


def test_flat_maps():
    flat = np.full((4, 6, 6), np.float32(1.1))
    np.testing.assert_array_equal(aligned_error(flat, MAPS), 1)
    assert np.isnan(aligned_error(MAPS, flat)).all()


def test_flat_targets_do_not_count():
    flat = np.full((1, 6, 6), 1.1)
    assert measure([MAPS[:2], MAPS[2:3]], [MAPS[:2], flat]) == pytest.approx(0, abs=1e-7)
    assert np.isnan(measure([MAPS[:1]], [flat]))

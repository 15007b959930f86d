"""Errors after alignment against least squares, and depth of rendered pictures against an estimator."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from threedgp.camera.geometry import rays
from threedgp.depth.estimator import Rejected
from threedgp.metrics.depth_agreement import aligned_error, axis_depth, estimated_depth, mean_error

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


def test_axis_depth_of_a_wall():
    """All points of a wall across the view have the same depth along the axis."""
    cameras = torch.tensor([[0.0, np.pi / 2, 0, 40, 1, 0, np.pi / 2, 0]], dtype=torch.float32)
    _, directions = rays(cameras, 8)
    along_ray = 0.5 / -directions[..., 2]  # the camera looks along -z
    found = axis_depth(along_ray.reshape(1, 1, 8, 8).numpy(), cameras.numpy())
    np.testing.assert_allclose(found, 0.5, rtol=1e-5)


class Brightness:
    """Sees depth in the red channel, and nothing in pictures that begin black."""

    name, looks_at_pixels = "brightness", True

    def estimate(self, pictures):
        return [
            Rejected("black") if one.rgb[0, 0].sum() == 0 else np.repeat(one.rgb[..., 0], 2, 1).repeat(2, 0) * 1.0
            for one in pictures
        ]


def test_estimator_sees_the_pictures():
    pictures = np.random.default_rng(2).integers(1, 256, (3, 3, 8, 8), dtype=np.uint8)
    pictures[1] = 0
    seen = estimated_depth(pictures, Brightness())
    np.testing.assert_allclose(seen[[0, 2]], pictures[[0, 2], 0], rtol=1e-5)  # at the pictures' resolution
    errors = aligned_error(2.0 * pictures[:, 0], seen)
    assert np.isnan(errors[1])
    assert mean_error([errors]) == pytest.approx(0, abs=1e-3)
    assert mean_error([errors[1:2]]) is None

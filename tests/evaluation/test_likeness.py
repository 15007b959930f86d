"""Similarity of a view and an image in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from threedgp.evaluation.likeness import likeness


def test_equal_images_and_depth_up_to_scale_and_shift() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    depth = np.linspace(1, 2, 32 * 32, dtype=np.float32).reshape(32, 32)
    found = likeness(image.transpose(1, 2, 0), depth, image, 3 * depth - 1)
    assert found == {
        "psnr": 99.0,
        "feature_similarity": pytest.approx(1, abs=1e-5),
        "depth_error": pytest.approx(0, abs=1e-3),
    }


def test_a_constant_difference_and_a_flat_plane() -> None:
    image = np.full((3, 32, 32), 100, np.uint8)
    depth = np.linspace(1, 2, 32 * 32, dtype=np.float32).reshape(32, 32)
    found = likeness(np.full((32, 32, 3), 110, np.uint8), np.ones_like(depth), image, depth)
    assert found["psnr"] == pytest.approx(20 * np.log10(255 / 10))
    assert found["depth_error"] == pytest.approx(1)
    assert "depth_error" not in likeness(np.full((32, 32, 3), 110, np.uint8), depth, image, None)

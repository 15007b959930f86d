"""Non-flatness score against golden arrays and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from threedgp.metrics.nfs import non_flatness


def test_golden(golden):
    arrays = np.load(golden / "nfs.npz")
    scores = non_flatness(arrays["depth"], float(arrays["near"]), float(arrays["far"]))
    np.testing.assert_allclose(scores, arrays["per_map_score"], rtol=1e-4)
    assert scores.mean() == pytest.approx(float(arrays["score"]), rel=1e-4)


def test_closed_forms():
    flat = np.full((8, 8), 1.0)
    halves = np.where(np.arange(64).reshape(8, 8) % 2, 0.8, 1.2)
    ramp = (np.arange(64).reshape(8, 8) + 0.5) / 64 * 0.5 + 0.75
    scores = non_flatness(np.stack([flat, halves, ramp])[:, None], near=0.75, far=1.25)
    np.testing.assert_allclose(scores, [1, 2, 64], rtol=1e-12)


def test_depth_beyond_the_bounds_falls_into_the_outer_bins():
    depth = np.array([[[0.0, 0.75, 1.25, 9.0]]])
    np.testing.assert_allclose(non_flatness(depth, 0.75, 1.25), [2])

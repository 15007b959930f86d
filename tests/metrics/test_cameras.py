"""Distances between camera distributions."""

from __future__ import annotations

import numpy as np
import pytest

from threedgp.camera.geometry import CAMERA_FIELDS, PRIOR_FIELDS
from threedgp.metrics.cameras import camera_distances, total_distance


def test_columns_are_those_of_the_camera():
    assert {name: CAMERA_FIELDS[column] for name, column in PRIOR_FIELDS.items()} == {
        name: name for name in PRIOR_FIELDS
    }


def test_summary():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(200, 8)).astype(np.float32)
    prior = truth + 1
    posterior = truth.copy()
    posterior[:, 0] += 0.5
    summary = camera_distances(posterior, prior, truth)
    assert summary["yaw"]["emd"] == pytest.approx(0.5, rel=1e-5)
    assert summary["pitch"]["emd"] == 0
    assert summary["fov"]["emd_prior"] == pytest.approx(1, rel=1e-5)
    assert summary["fov"]["std"] == pytest.approx(truth[:, 3].std(), rel=1e-5)
    assert summary["fov"]["prior_mean"] == pytest.approx(summary["fov"]["true_mean"] + 1, rel=1e-5)


def test_total_is_a_mean_over_what_the_prior_varies():
    """A prior that varies nothing has no range to compare with; 0 would be a perfect score."""
    distances = {"yaw": {"emd": 0.5}, "fov": {"emd": 9.0}}
    assert total_distance(distances, {"yaw": (-1, 1), "fov": (10, 40)}, "emd") == pytest.approx((0.25 + 0.3) / 2)
    assert total_distance(distances, {"yaw": (-1, 1), "fov": (12, 12)}, "emd") == 0.25
    assert np.isnan(total_distance(distances, {"yaw": (0, 0), "fov": (12, 12)}, "emd"))

"""Distances between camera distributions; scipy knows the truth."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from threedgp.camera.geometry import CAMERA_FIELDS
from threedgp.metrics.camera_emd import COMPARED, camera_distances, wasserstein_1d


@pytest.mark.parametrize("sizes", [(50, 50), (50, 71), (1, 3)])
def test_against_scipy(sizes):
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=sizes[0]), rng.exponential(size=sizes[1])
    assert wasserstein_1d(first, second) == pytest.approx(scipy.stats.wasserstein_distance(first, second), rel=1e-12)


def test_a_shift_is_its_own_distance():
    values = np.random.default_rng(0).normal(size=100)
    assert wasserstein_1d(values, values + 0.25) == pytest.approx(0.25)


def test_columns_are_those_of_the_camera():
    assert {name: CAMERA_FIELDS[column] for name, column in COMPARED.items()} == {name: name for name in COMPARED}


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

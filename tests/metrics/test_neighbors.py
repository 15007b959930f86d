"""Nearest training images against all distances written out; copies have authenticity 0."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from threedgp.metrics import neighbors
from threedgp.metrics.neighbors import authenticity, nearest


def features(count: int, seed: int) -> np.ndarray:
    return (5 + np.random.default_rng(seed).normal(size=(count, 6))).astype(np.float32)


TRAINING = features(70, 0)


def test_against_all_distances(monkeypatch):
    queries = features(9, 1)
    apart = cdist(queries.astype(float), TRAINING.astype(float))
    for block in (4096, 8):
        monkeypatch.setattr(neighbors, "BLOCK", block)
        found = nearest(queries, TRAINING, 3)
        np.testing.assert_array_equal(found.rows, np.argsort(apart, axis=1)[:, :3])
        np.testing.assert_allclose(found.distances, np.sort(apart, axis=1)[:, :3], rtol=1e-12)


def test_equal_distances_are_not_authentic():
    """On a line: the nearest of 0 is 1, whose own nearest is as far away as 0 is."""
    line = np.array([[1.0], [2.0], [10.0]], np.float32)
    found = authenticity(np.array([[0.0]], np.float32), line)
    assert found.closeness.tolist() == [1] and found.authentic.tolist() == [False]


def test_copy_has_distance_zero():
    """Distances by products would leave the rounding error of the square root, 1e-3 here."""
    found = authenticity(TRAINING[[5, 33]], TRAINING)
    assert found.nearest.rows[:, 0].tolist() == [5, 33]
    assert found.nearest.distances[:, 0].tolist() == [0, 0]
    assert found.authentic.tolist() == [False, False]
    assert found.closeness.tolist() == [0, 0]


def test_authenticity_against_its_definition():
    queries = np.concatenate([features(40, 2), TRAINING[:3] + 1e-3])
    found = authenticity(queries, TRAINING, 2)
    apart = cdist(queries.astype(float), TRAINING.astype(float))
    own = cdist(TRAINING.astype(float), TRAINING.astype(float))
    np.fill_diagonal(own, np.inf)
    owner = apart.argmin(axis=1)
    np.testing.assert_array_equal(found.authentic, apart.min(axis=1) > own.min(axis=1)[owner])
    np.testing.assert_allclose(found.closeness, apart.min(axis=1) / own.min(axis=1)[owner], rtol=1e-9)
    assert 0 < found.authentic.mean() < 1
    assert not found.authentic[-3:].any()


def test_training_images_are_compared_without_themselves():
    own = np.array([2, 40, 69])
    found = authenticity(TRAINING[own], TRAINING, own=own)
    for index, row in enumerate(own):
        others = np.delete(TRAINING, row, axis=0)
        alone = authenticity(TRAINING[row : row + 1], others)
        assert found.closeness[index] == pytest.approx(alone.closeness[0], rel=1e-12)
        assert found.closeness[index] > 0


def test_duplicates_in_the_training_set():
    double = np.concatenate([TRAINING[:20], TRAINING[:1]])
    found = authenticity(TRAINING[:1] + 0.01, double)
    assert found.authentic.all()  # its nearest has a fellow at no distance

"""Extrapolation to infinitely many images, against the closed form for two Gaussians."""

from __future__ import annotations

import numpy as np
import pytest

from threedgp.features.moments import Moments
from threedgp.metrics.frechet import frechet_distance
from threedgp.metrics.frechet_extrapolation import extrapolated_distance

DIMS, REPEATS = 32, 60
STATISTICS = Moments(10**6, np.zeros(DIMS), (10**6 - 1) * np.eye(DIMS))
TRUTH = DIMS * 0.3**2 + DIMS * (1.5 - 1) ** 2
"""Distance between N(0, 1) and N(0.3, 1.5^2) in each dimension."""


def sample(count: int, seed: int) -> np.ndarray:
    return (0.3 + 1.5 * np.random.default_rng(seed).normal(size=(count, DIMS))).astype(np.float32)


def test_extrapolation_removes_the_bias():
    plain, lines = [], []
    for seed in range(REPEATS):
        some = sample(600, seed)
        plain.append(frechet_distance(Moments.of(some), STATISTICS))
        lines.append(extrapolated_distance(some, STATISTICS, seed=seed))
    found = [line[0] for line in lines]
    scatter = np.std(found) / np.sqrt(REPEATS)
    bias = np.mean(plain) - TRUTH
    assert bias > 5 * scatter  # there is something to remove
    assert abs(np.mean(found) - TRUTH) < 0.2 * bias + 3 * scatter
    assert np.mean([line[1] for line in lines]) == pytest.approx(bias, rel=0.3)


def test_same_seed_same_number():
    some = sample(100, 0)
    assert extrapolated_distance(some, STATISTICS, seed=1) == extrapolated_distance(some, STATISTICS, seed=1)

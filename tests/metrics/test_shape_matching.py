"""Matching of depth maps against all pairs written out, and where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from threedgp.evaluation.streams import Stream
from threedgp.metrics.depth_consistency import aligned_error
from threedgp.metrics.shape_matching import match_shapes, small_maps


def stream(maps: np.ndarray) -> Stream:
    return Stream(len(maps), [lambda: maps[:3, None], lambda: maps[3:, None]])


def maps(count: int, seed: int, resolution: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).uniform(1, 2, (count, resolution, resolution)).astype(np.float32)


def test_against_all_pairs():
    made, true = maps(7, 0), maps(9, 1)
    errors = np.stack([aligned_error(np.broadcast_to(one, true.shape), true) for one in made])
    distance, coverage = match_shapes(made, true)
    assert distance == pytest.approx(errors.min(axis=0).mean(), rel=1e-4)  # float32
    assert coverage == len(set(errors.argmin(axis=1))) / 9


def test_known_cases():
    true = maps(6, 2)
    distance, coverage = match_shapes(5 * true + 2, true)
    assert distance < 2e-3  # the square root of float32's rounding
    assert coverage == 1
    assert match_shapes(np.repeat(true[:1], 6, 0), true)[1] == 1 / 6
    assert match_shapes(np.full_like(true, 1.1), true) == (1, 0)


def test_maps_are_counted_and_large_ones_made_small():
    large = maps(6, 3, 64)
    found = small_maps(stream(large), 4)
    np.testing.assert_allclose(found, large[:4].reshape(4, 32, 2, 32, 2).mean((2, 4)), rtol=1e-5)
    np.testing.assert_array_equal(small_maps(stream(maps(6, 3)), 4), maps(6, 3)[:4])

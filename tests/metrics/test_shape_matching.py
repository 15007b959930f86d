"""Matching of depth maps against all pairs written out, and where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from threedgp.evaluation.streams import Stream
from threedgp.metrics.depth_consistency import aligned_error
from threedgp.metrics.shape_matching import match_shapes, unit_maps


def stream(maps: np.ndarray) -> Stream:
    return Stream(len(maps), [lambda: maps[:3, None], lambda: maps[3:, None]])


def maps(count: int, seed: int, resolution: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).uniform(1, 2, (count, resolution, resolution)).astype(np.float32)


def test_against_all_pairs():
    made, true = maps(7, 0), maps(9, 1)
    errors = np.stack([aligned_error(np.broadcast_to(one, true.shape), true) for one in made])
    found = match_shapes(unit_maps(stream(made), 7), unit_maps(stream(true), 9))
    assert found.distance == pytest.approx(errors.min(axis=0).mean(), rel=1e-4)  # float32
    assert found.coverage == len(set(errors.argmin(axis=1))) / 9


def test_known_cases():
    true = maps(6, 2)
    rows = unit_maps(stream(true), 6)
    itself = match_shapes(unit_maps(stream(5 * true + 2), 6), rows)
    assert itself.distance < 2e-3  # the square root of float32's rounding
    assert itself.coverage == 1
    assert match_shapes(unit_maps(stream(np.repeat(true[:1], 6, 0)), 6), rows).coverage == 1 / 6
    assert match_shapes(unit_maps(stream(np.full_like(true, 1.1)), 6), rows) == (1, 0)


def test_large_maps_are_made_small_and_counted():
    rows = unit_maps(stream(maps(6, 3, 64)), 4)
    assert rows.shape == (4, 32 * 32)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)

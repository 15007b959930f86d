"""The estimators `sidecar` and `simulated`."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from threedgp.config import DepthConfig
from threedgp.data.source import RawPicture
from threedgp.data.world.rendering import render_picture
from threedgp.data.world.scenes import draw_scene
from threedgp.depth.estimation import encode
from threedgp.depth.estimator import Rejected, build_estimator


def picture(index: int = 0) -> RawPicture:
    rgb, depth = render_picture(draw_scene(0, index), 48)
    return RawPicture(f"{index:08d}", 0, rgb, depth)


def correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_sidecar_hands_out_the_map_of_the_source() -> None:
    given = picture()
    (depth,) = build_estimator(DepthConfig(estimator="sidecar")).estimate([given])
    assert depth is given.depth


@pytest.mark.parametrize("name", ["sidecar", "simulated"])
def test_no_depth_is_a_reject(name: str) -> None:
    estimator = build_estimator(DepthConfig(estimator=name))
    assert estimator.name == name and not estimator.looks_at_pixels
    (result,) = estimator.estimate([RawPicture("a", 0, np.zeros((4, 4, 3), np.uint8))])
    assert isinstance(result, Rejected) and "no depth" in result.reason


def test_strength_zero_is_the_truth() -> None:
    given = picture()
    (depth,) = build_estimator(DepthConfig(estimator="simulated", strength=0)).estimate([given])
    np.testing.assert_array_equal(encode(depth, 48), encode(given.depth, 48))


def test_inaccurate_but_like_the_truth() -> None:
    pictures = [picture(index) for index in range(12)]
    means = []
    for strength in (0.5, 1.0, 2.0):
        maps = build_estimator(DepthConfig(estimator="simulated", strength=strength)).estimate(pictures)
        means.append(np.mean([correlation(depth, given.depth) for depth, given in zip(maps, pictures, strict=True)]))
        assert all(depth.dtype == np.float32 and np.isfinite(depth).all() for depth in maps)
    assert 0.999 > means[0] > means[1] > means[2] > 0.7


def test_scale_and_shift_are_lost() -> None:
    maps = build_estimator(DepthConfig(estimator="simulated")).estimate([picture(index) for index in range(12)])
    assert np.std([depth.max() for depth in maps]) > 0.1  # the truth is 1.25 everywhere


def test_random_by_seed_and_id_only() -> None:
    pictures = [picture(index) for index in range(3)]
    estimator = build_estimator(DepthConfig(estimator="simulated", seed=1))
    together, alone = estimator.estimate(pictures)[2], estimator.estimate(pictures[2:])[0]
    np.testing.assert_array_equal(together, alone)
    (other,) = build_estimator(DepthConfig(estimator="simulated", seed=2)).estimate(pictures[2:])
    assert (other != together).any()


def test_constant_truth_stays_constant() -> None:
    empty = RawPicture("a", 0, np.zeros((8, 8, 3), np.uint8), np.full((8, 8), 1.25, np.float32))
    (depth,) = build_estimator(DepthConfig(estimator="simulated")).estimate([empty])
    assert isinstance(encode(depth, 8), Rejected)

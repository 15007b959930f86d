"""The estimator `simulated`: each fault on its own, and all of them on the procedural world."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from threedgp.config import DepthConfig
from threedgp.data.source import RawPicture
from threedgp.data.world.rendering import render_picture
from threedgp.data.world.scenes import draw_scene
from threedgp.depth.estimation import encode
from threedgp.depth.estimator import Rejected, build_estimator
from threedgp.depth.estimators import _simulated as simulated

Map = NDArray[np.float32]
NO_FAULTS = {
    "LOG_SCALE_STD": 0.0,
    "SHIFT_STD": 0.0,
    "LOG_GAMMA_STD": 0.0,
    "MAX_NEAR_CUT": 0.0,
    "MAX_LOG_FLATTENING": 0.0,
    "THIN_SHARE": 0.0,
    "BLUR_RANGE": (1e-6, 1e-6),
    "BIAS_STD": 0.0,
    "NOISE_STD": 0.0,
    "FAILURE_SHARE": 0.0,
}


@pytest.fixture(scope="module")
def pictures() -> list[RawPicture]:
    renderings = [render_picture(draw_scene(0, index), 48) for index in range(40)]
    return [RawPicture(f"{index:08d}", 0, each.rgb, each.depth) for index, each in enumerate(renderings)]


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch):
    """A function that switches all faults off but some."""

    def switch(*faults: str) -> None:
        for name in NO_FAULTS.keys() - set(faults):
            monkeypatch.setattr(simulated, name, NO_FAULTS[name])

    return switch


def estimate(pictures: list[RawPicture], strength: float = 1.0, seed: int = 0, name: str = "simulated") -> list[Map]:
    estimator = build_estimator(DepthConfig(estimator=name, strength=strength, seed=seed))
    return [found.depth for found in estimator.estimate(pictures)]


def fields_of_view(true: list[float], strength: float = 1.0, seed: int = 0) -> list[float | None]:
    """What is estimated for images with these fields of view."""
    estimator = build_estimator(DepthConfig(estimator="simulated", strength=strength, seed=seed))
    cameras = [np.array([0, 0, 0, fov, 1, 0, 0, 0], np.float32) for fov in true]
    images = [replace(picture, cameras=camera) for picture, camera in zip(ramps(len(true)), cameras, strict=True)]
    return [found.fov for found in estimator.estimate(images)]


def ramps(count: int) -> list[RawPicture]:
    """Images with depth from 0 at the left to 1 at the right, the same in each row."""
    depth = np.broadcast_to(np.linspace(0, 1, 101, dtype=np.float32), (101, 101))
    return [RawPicture(str(index), 0, np.zeros((101, 101, 3), np.uint8), depth) for index in range(count)]


def correlation(one: Map, other: Map) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_strength_zero_is_the_truth(pictures: list[RawPicture]) -> None:
    for depth, picture in zip(estimate(pictures, strength=0), pictures, strict=True):
        np.testing.assert_array_equal(depth, picture.depth)


def test_faults_grow_with_the_strength(pictures: list[RawPicture]) -> None:
    errors = []
    for strength in (1e-3, 0.5, 1.0, 2.0):
        maps = estimate(pictures, strength)
        assert all(depth.dtype == np.float32 and np.isfinite(depth).all() for depth in maps)
        errors.append(
            np.median([1 - correlation(depth, given.depth) for depth, given in zip(maps, pictures, strict=True)])
        )
    assert errors[0] < 1e-4  # continuous at the truth
    assert errors[0] < errors[1] < errors[2] < errors[3]
    assert errors[1] < 0.03 and errors[2] < 0.1 and errors[3] < 0.4  # still like the truth


def test_without_faults_it_is_the_truth(pictures: list[RawPicture], only) -> None:
    only()
    for depth, picture in zip(estimate(pictures), pictures, strict=True):
        np.testing.assert_allclose(depth, picture.depth, atol=1e-6)


def test_scale_and_shift_are_unknown(pictures: list[RawPicture], only) -> None:
    only("LOG_SCALE_STD", "SHIFT_STD")
    maps = estimate(pictures)
    assert all(correlation(depth, given.depth) > 1 - 1e-6 for depth, given in zip(maps, pictures, strict=True))
    ratios = [np.ptp(depth) / np.ptp(given.depth) for depth, given in zip(maps, pictures, strict=True)]
    assert np.log(ratios).std() == pytest.approx(simulated.LOG_SCALE_STD, rel=0.4)
    assert np.std([depth.min() for depth in maps]) > 0.15


def test_gamma_bends_depth(only) -> None:
    only("LOG_GAMMA_STD")
    middles = np.array([depth[0, 50] for depth in estimate(ramps(60))])  # 0.5 ** gamma
    gammas = np.log(middles) / np.log(0.5)
    assert np.log(gammas).std() == pytest.approx(simulated.LOG_GAMMA_STD, rel=0.3)
    doubled = np.array([depth[0, 50] for depth in estimate(ramps(60), strength=2)])
    np.testing.assert_allclose(np.log(doubled) / np.log(0.5), gammas**2, rtol=1e-3)  # the same fault, twice


def test_near_plane_is_cut(only) -> None:
    only("MAX_NEAR_CUT")
    for depth in estimate(ramps(5)):
        cut = depth.min()
        assert 0 < cut < simulated.MAX_NEAR_CUT
        np.testing.assert_allclose(depth[0], np.maximum(np.linspace(0, 1, 101), cut), atol=1e-6)


def test_background_is_flattened(only) -> None:
    only("MAX_LOG_FLATTENING")
    beyond = round(100 * simulated.FLAT_BEYOND)
    for depth in estimate(ramps(5)):
        slopes = np.diff(depth[0]) * 100
        np.testing.assert_allclose(slopes[:beyond], 1, atol=1e-3)
        assert np.exp(-simulated.MAX_LOG_FLATTENING) - 1e-3 < slopes[beyond + 1] < 1
        np.testing.assert_allclose(slopes[beyond + 1 :], slopes[beyond + 1], atol=1e-3)


def test_thin_parts_sink_into_what_is_behind(only) -> None:
    only("THIN_SHARE")
    depth = np.ones((101, 101), np.float32)
    depth[:, 20:23] = 0.5  # thin
    depth[:, 50:90] = 0.5  # wide
    depth[0, 0] = 0  # so that depth is scaled from 0 to 1
    given = RawPicture("a", 0, np.zeros((101, 101, 3), np.uint8), depth)
    (half,), (full,) = estimate([given], 1.0), estimate([given], 4.0)
    np.testing.assert_allclose(half[10:, 50:90], 0.5, atol=1e-6)
    np.testing.assert_allclose(half[10:, 30:45], 1, atol=1e-6)
    assert 0.5 < half[10:, 21].mean() < full[10:, 21].mean() <= 1
    assert half[10:, 21].std() > 0.01  # some stretches more than others


def test_edges_are_blurred(only) -> None:
    only("BLUR_RANGE")
    depth = np.zeros((101, 101), np.float32)
    depth[:, 50:] = 1
    (blurred,) = estimate([RawPicture("a", 0, np.zeros((101, 101, 3), np.uint8), depth)])
    assert 0.01 < blurred[50, 49] < 0.5 < blurred[50, 50] < 0.99
    assert blurred[50, 20] == 0 and blurred[50, 80] == 1


def test_few_maps_are_plainly_wrong(only) -> None:
    only("FAILURE_SHARE")
    given = ramps(600)
    for strength in (0.5, 1.0, 2.0):
        right = [correlation(depth, given[0].depth) > 0.999 for depth in estimate(given, strength)]
        share = strength * simulated.FAILURE_SHARE
        assert abs(1 - np.mean(right) - share) < 4 * np.sqrt(share / len(given))
    wrong = {round(correlation(depth, given[0].depth), 2) for depth in estimate(given, 2.0)} - {1.0}
    assert wrong == {-1.0, 0.0}  # near and far exchanged; a ramp along the other axis


def test_metric_depth_is_wrong_by_a_factor_and_not_bent(pictures: list[RawPicture], only) -> None:
    only("LOG_SCALE_STD", "SHIFT_STD", "LOG_GAMMA_STD", "MAX_NEAR_CUT", "MAX_LOG_FLATTENING")
    factors = []
    for depth, given in zip(estimate(pictures, name="simulated_metric"), pictures, strict=True):
        factors.append(np.median(depth / given.depth))
        np.testing.assert_allclose(depth, factors[-1] * given.depth, rtol=1e-5)
    assert np.log(factors).std() == pytest.approx(simulated.LOG_SCALE_STD, rel=0.4)
    assert not build_estimator(DepthConfig(estimator="simulated")).metric
    assert build_estimator(DepthConfig(estimator="simulated_metric")).metric


def test_metric_depth_has_local_faults(pictures: list[RawPicture]) -> None:
    errors = []
    for name in ("simulated", "simulated_metric"):
        maps = estimate(pictures, name=name)
        errors.append(
            np.median([1 - correlation(depth, given.depth) for depth, given in zip(maps, pictures, strict=True)])
        )
    assert 1e-3 < errors[1] < errors[0]


def test_random_by_seed_and_id_only(pictures: list[RawPicture]) -> None:
    together, alone = estimate(pictures[:3], seed=1)[2], estimate(pictures[2:3], seed=1)[0]
    np.testing.assert_array_equal(together, alone)
    assert (estimate(pictures[2:3], seed=2)[0] != together).any()


def test_field_of_view_is_true_at_strength_zero_and_errs_as_stated() -> None:
    true = np.linspace(12, 35, 300)
    np.testing.assert_allclose(fields_of_view(true, strength=0), true, rtol=1e-6)
    errors = np.log(fields_of_view(true) / true)
    # The standard error of a deviation is 4 % for 300 images.
    assert errors.std() == pytest.approx(simulated.LOG_FOV_STD, rel=0.15)
    assert abs(errors.mean()) < 4 * simulated.LOG_FOV_STD / np.sqrt(len(true))
    np.testing.assert_allclose(np.log(fields_of_view(true, strength=2) / true), 2 * errors, rtol=1e-4, atol=1e-5)
    assert fields_of_view(true[:3]) == fields_of_view(true)[:3] != fields_of_view(true[:3], seed=1)


def test_no_field_of_view_without_a_true_camera(pictures: list[RawPicture]) -> None:
    (found,) = build_estimator(DepthConfig(estimator="simulated")).estimate(pictures[:1])
    assert found.fov is None


def test_constant_truth_stays_constant() -> None:
    empty = RawPicture("a", 0, np.zeros((8, 8, 3), np.uint8), np.full((8, 8), 1.25, np.float32))
    assert isinstance(encode(estimate([empty])[0], 8), Rejected)

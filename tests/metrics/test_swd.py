"""Sliced Wasserstein distance against a closed form and a plain second implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.ndimage

from threedgp.metrics import swd
from threedgp.metrics.swd import sliced_wasserstein


def noise(count: int, channels: int = 3, resolution: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, channels, resolution, resolution)).astype(np.float32)


def blurred(count: int, seed: int) -> np.ndarray:
    return scipy.ndimage.gaussian_filter(noise(count, seed=seed), (0, 0, 2, 2))


def test_levels_go_down_to_16_pixels():
    assert swd.levels(128) == [128, 64, 32, 16]
    assert swd.levels(16) == [16]
    assert swd.levels(8) == [8]


@pytest.mark.parametrize(("resolution", "error"), [(16, 0.02), (32, 0.1)], ids=["one level", "two levels"])
def test_flat_images_against_white_noise(resolution, error):
    """Normalized white noise projects to N(0, 1) and a flat image to 0: the distance is E|N(0, 1)|."""
    flat = np.full((64, 3, resolution, resolution), 0.3)
    found = sliced_wasserstein([noise(64, resolution=resolution)], {"flat": [flat]}, count=64)["flat"]
    # 64 * 256 distinct pixels: relative error about 1 / 128. On two levels, pixels depend on their neighbors.
    assert found == pytest.approx(math.sqrt(2 / math.pi), rel=error)


@pytest.mark.parametrize("channels", [1, 3])
def test_same_set_scaled_and_shifted_is_at_distance_zero(channels):
    pictures = noise(8, channels)
    found = sliced_wasserstein([pictures], {"itself": [pictures], "brighter": [3 * pictures + 5]}, count=8)
    assert found["itself"] == 0
    assert found["brighter"] < 1e-5  # float32


def test_batches_do_not_matter():
    first, second = noise(9), blurred(9, seed=1)
    whole = sliced_wasserstein([first], {"x": [second]}, count=9)
    split = sliced_wasserstein([first[:2], first[2:]], {"x": [second[:5], second[5:]]}, count=9)
    assert whole == split


def test_other_texture_is_farther_than_other_sample():
    found = sliced_wasserstein(
        [blurred(64, seed=1)], {"sample": [blurred(64, seed=2)], "texture": [noise(64, seed=3)]}, count=64
    )
    assert found["sample"] < 0.6 * found["texture"]


def test_constant_channel_is_finite():
    pictures = noise(4)
    pictures[:, 1] = 7.0
    found = sliced_wasserstein([pictures], {"x": [noise(4, seed=1)]}, count=4)
    assert 0 < found["x"] < 2


def test_rounding_errors_of_a_flat_depth_map_are_not_blown_up():
    flat = np.full((4, 1, 32, 32), 1.1, np.float32)
    for steps, last in ((0, False), (1, True)):
        assert np.abs(swd.descriptors([flat], 4, steps, last, seed=0)).max() == 0


def test_pyramid_against_plain_convolution():
    """The Laplacian pyramid of Burt and Adelson, written out with SciPy away from the border."""
    picture = noise(1)[0].transpose(1, 2, 0)
    kernel = np.array([1, 4, 6, 4, 1]) / 16
    kernel = np.outer(kernel, kernel)[..., None]
    small = scipy.ndimage.convolve(picture, kernel, mode="mirror")[::2, ::2]
    spread = np.zeros_like(picture)
    spread[::2, ::2] = small
    fine = picture - scipy.ndimage.convolve(spread, 4 * kernel, mode="mirror")
    np.testing.assert_allclose(swd.pyramid_level(picture, 1, last=True), small, atol=1e-5)
    np.testing.assert_allclose(swd.pyramid_level(picture, 0, last=False)[4:-4, 4:-4], fine[4:-4, 4:-4], atol=1e-5)


def test_distance_against_plain_second_implementation():
    """All patches' places and directions replayed, everything else written out naively in float64."""
    first, second = noise(3, 2, 16), blurred(3, seed=1)[:, :2, :16, :16]
    rng = np.random.default_rng([5, 0])
    places = [rng.integers(0, [10, 10], size=(128, 2)) for _ in range(3)]

    def patches(pictures: np.ndarray) -> np.ndarray:
        cut = [p[:, y : y + 7, x : x + 7] for p, where in zip(pictures, places, strict=True) for y, x in where]
        cut = np.array(cut, dtype=np.float64)
        cut -= cut.mean((0, 2, 3), keepdims=True)
        cut /= cut.std((0, 2, 3), keepdims=True)
        return cut.transpose(0, 2, 3, 1).reshape(len(cut), -1)

    apart = []
    for repeat in range(4):
        directions = np.random.default_rng([5, repeat]).standard_normal((128, 2 * 49))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        a, b = (np.sort(patches(pictures) @ directions.T, axis=0) for pictures in (first, second))
        apart.append(np.abs(a - b).mean())
    found = sliced_wasserstein([first], {"x": [second]}, count=3, seed=5)["x"]
    assert found == pytest.approx(np.mean(apart), rel=1e-5)  # float32 against float64

"""Networks as estimators: batches, bad images, pixels without depth, the size of the maps."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from threedgp.data.source import RawPicture
from threedgp.depth.estimation import encode
from threedgp.depth.estimator import Estimate, Rejected
from threedgp.depth.estimators import _network
from threedgp.depth.estimators._network import DepthMap, NetworkDepth
from threedgp.runtime.errors import UserError

BAD = 255
"""An image whose first value is this makes the network fail."""


def picture(number: int, size: int = 8) -> RawPicture:
    return RawPicture(str(number), 0, np.full((size, size, 3), number, np.uint8))


class Ramp:
    """Depth that rises to the right, and says which image it was made of; keeps the sizes of the batches."""

    metric = False

    def __init__(self, size: int = 8, batches: bool = True, known: NDArray[np.bool_] | None = None) -> None:
        self.size, self.batches, self.known = size, batches, known
        self.seen: list[int] = []

    def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> list[DepthMap]:
        self.seen.append(len(pictures))
        numbers = [int(picture[0, 0, 0]) for picture in pictures]
        if BAD in numbers:
            raise ValueError("cannot take\nthis image")
        ramp = np.tile(np.arange(self.size, dtype=np.float32), (self.size, 1))
        return [DepthMap(ramp + number, self.known) for number in numbers]


@pytest.mark.parametrize(("batches", "expected"), [(True, [4, 4, 2]), (False, [1] * 10)])
def test_batches(batches: bool, expected: list[int]) -> None:
    ramp = Ramp(batches=batches)
    estimator = NetworkDepth("ramp", ramp, batch_size=4)
    maps = estimator.estimate([picture(number) for number in range(10)])
    assert ramp.seen == expected and estimator.name == "ramp" and estimator.looks_at_pixels
    assert [found.depth[0, 0] for found in maps] == list(range(10))
    assert estimator.estimate([]) == []


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_a_bad_image_goes_alone(size: int) -> None:
    numbers = [1, 2, BAD, 4, 5, BAD]
    maps = NetworkDepth("ramp", Ramp(), size).estimate([picture(number) for number in numbers])
    for number, found in zip(numbers, maps, strict=True):
        if number == BAD:
            assert found == Rejected("the estimator failed: cannot take this image")
        else:
            assert found.depth[0, 0] == number


def test_a_network_that_always_fails_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_network, "MAX_FAILURES", 5)
    estimator = NetworkDepth("ramp", Ramp(), 4)
    for _ in range(3):  # four at most in a row
        estimator.estimate([*map(picture, [BAD] * 4), picture(1)])
    with pytest.raises(UserError, match="'ramp' failed on 5 images in a row; the last: cannot take this image"):
        estimator.estimate([picture(BAD)] * 8)


def test_out_of_memory_names_the_setting() -> None:
    class Large(Ramp):
        def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> list[DepthMap]:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(UserError, match=r"depth.batch_size: 3 images at once need more memory"):
        NetworkDepth("large", Large(), 8).estimate([picture(1)] * 3)


def test_a_broken_device_is_no_reject() -> None:
    class Broken(Ramp):
        def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> list[DepthMap]:
            raise torch.AcceleratorError("device-side assert triggered")

    with pytest.raises(torch.AcceleratorError):
        NetworkDepth("broken", Broken(), 1).estimate([picture(1)])


def test_one_batch_at_a_time_from_any_number_of_threads() -> None:
    class Alone(Ramp):
        inside = 0

        def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> list[DepthMap]:
            self.inside += 1
            for _ in range(1000):
                assert self.inside == 1
            self.inside -= 1
            return super().__call__(pictures)

    estimator = NetworkDepth("alone", Alone(), 2)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: estimator.estimate([picture(n)] * 4), range(50)))
    assert all(isinstance(found, Estimate) for maps in results for found in maps)


def test_pixels_without_depth_are_the_farthest() -> None:
    known = np.ones((8, 8), bool)
    known[:, 6:] = known[:3] = False
    ((depth, _),) = NetworkDepth("ramp", Ramp(known=known), 1).estimate([picture(0)])
    np.testing.assert_array_equal(depth[3:, :6], np.tile(np.arange(6), (5, 1)))
    assert (depth[~known] == 5).all()
    encoded = encode(depth, 8).levels
    assert (encoded[~known] == 65535).all() and (encoded[3:, 0] == 0).all()


def test_infinite_sky() -> None:
    class Sky(Ramp):
        def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> list[DepthMap]:
            depth = super().__call__(pictures)[0].depth
            depth[:4] = np.inf
            return [DepthMap(depth, np.isfinite(depth))]

    ((depth, _),) = NetworkDepth("sky", Sky(), 1).estimate([picture(0)])
    assert (depth[:4] == 7).all()


@pytest.mark.parametrize(("known_pixels", "fine"), [(20, True), (19, False), (0, False)])
def test_too_little_depth(known_pixels: int, fine: bool) -> None:
    known = np.zeros(400, bool)
    known[:known_pixels] = True
    (found,) = NetworkDepth("ramp", Ramp(20, known=known.reshape(20, 20)), 1).estimate([picture(0, 20)])
    assert isinstance(found, Rejected) != fine
    if not fine:
        assert found.reason == f"{1 - known_pixels / 400:.1%} of the image has no depth (sky, or unknown)"


@pytest.mark.parametrize(("size", "picture_size"), [(16, 8), (8, 16), (8, 8)])
def test_maps_get_the_size_of_the_image(size: int, picture_size: int) -> None:
    ((depth, _),) = NetworkDepth("ramp", Ramp(size), 1).estimate([picture(0, picture_size)])
    centers = (np.arange(picture_size) + 0.5) * size / picture_size - 0.5  # where linear interpolation looks
    np.testing.assert_allclose(depth[0], centers.clip(0, size - 1))
    assert depth.shape == (picture_size, picture_size) and depth.dtype == np.float32

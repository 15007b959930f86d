"""Differences along both axes: what they are, that sums undo them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from threedgp.config.root import LARGEST_DIFFERENCES
from threedgp.data.differences import MOST_PIXELS, along_both_axes, pack_picture, picture_size, summed, unpack_picture
from threedgp.data.images import decode_image, decode_planes, encode_image

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_differences_are_those_of_their_definition(dtype: type) -> None:
    values = RNG.integers(0, np.iinfo(dtype).max, (5, 7)).astype(dtype)
    padded = np.pad(values.astype(int), ((1, 0), (1, 0)))
    expected = padded[1:, 1:] - padded[:-1, 1:] - padded[1:, :-1] + padded[:-1, :-1]
    np.testing.assert_array_equal(along_both_axes(values), (expected % (np.iinfo(dtype).max + 1)).astype(dtype))


def test_sums_undo_differences() -> None:
    values = RNG.integers(0, 256, (9, 4), dtype=np.uint8)
    np.testing.assert_array_equal(summed(along_both_axes(values)) % 256, values)


def test_the_largest_picture_comes_back() -> None:
    height, width = 2048, 1024
    largest = np.full((3 * height, width), 255, np.uint8)
    assert summed(largest)[-1, -1] == 3 * MOST_PIXELS * 255  # no overflow
    assert LARGEST_DIFFERENCES**2 <= MOST_PIXELS
    picture = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_image(encode_image(picture, "differences")), picture)
    with pytest.raises(ValueError, match="2048x1025 pixels is too large"):
        pack_picture(np.zeros((1025, 2048, 3), np.uint8))


@pytest.mark.parametrize(
    "picture", [np.zeros((4, 4, 3), np.int16), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_no_picture_is_not_packed(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected a picture"):
        pack_picture(picture)


def test_not_square() -> None:
    picture = RNG.integers(0, 256, (3, 5, 3), dtype=np.uint8)
    data = pack_picture(picture)
    assert picture_size(data) == (3, 5)
    np.testing.assert_array_equal(decode_image(data), picture)
    with pytest.raises(ValueError, match="has 5x3 pixels, not 5 a side"):
        decode_planes(data, np.empty((3, 5, 5), np.uint8))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:6],
        lambda data: data[:8],
        lambda data: data[:-1],
        lambda data: data[:8] + b"junk",
        lambda data: data[:4] + b"\xff\xff\xff\xff" + data[8:],
        lambda data: data[:4] + b"\0\0\0\0" + data[8:],
        lambda data: data[:4] + b"\x09\0\x08\0" + data[8:],
    ],
    ids=["no size", "nothing behind the size", "cut off", "junk", "gigantic", "no pixels", "another size"],
)
def test_damaged_pictures_are_refused(damage) -> None:
    data = pack_picture(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="these bytes are no"):
        decode_image(damage(data))


def test_photographs_are_as_small_as_webp(real_rgbd: Path) -> None:
    pictures = [cv2.imread(str(file))[..., ::-1] for file in sorted(real_rgbd.glob("*.jpg"))[:8]]
    sizes = {
        kind: sum(len(encode_image(np.ascontiguousarray(p), kind)) for p in pictures)
        for kind in ("differences", "webp")
    }
    assert sizes["differences"] < 1.1 * sizes["webp"]  # measured on all 24: 1.04


def test_planes_in_the_middle_of_a_batch() -> None:
    batch = np.zeros((3, 3, 8, 8), np.uint8)
    picture = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    unpack_picture(pack_picture(picture), batch[1])
    np.testing.assert_array_equal(batch[1], picture.transpose(2, 0, 1))
    assert not batch[0].any() and not batch[2].any()

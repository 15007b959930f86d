"""Encoded images and depth maps: lossless round trips, JPEG within its error, damaged data."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

from threedgp.data import schemas
from threedgp.data.images import decode_image, decode_images, depth_from_bytes, depth_to_bytes, encode_image, resize_map

RNG = np.random.default_rng(0)
SMOOTH = cv2.resize(RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC)
PICTURES = {
    "smooth": SMOOTH,
    "noise": RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8),
    "black": np.zeros((8, 8, 3), np.uint8),
    "one pixel": np.full((1, 1, 3), (1, 2, 3), np.uint8),
    "a view": RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)[3:35, 5:37],
}


@pytest.mark.parametrize("encoding", ["webp", "png"])
@pytest.mark.parametrize("name", PICTURES)
def test_lossless(encoding: str, name: str) -> None:
    data = encode_image(PICTURES[name], encoding)
    np.testing.assert_array_equal(decode_image(data), PICTURES[name])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), PICTURES[name])  # as other programs do


def test_jpeg_keeps_colors() -> None:
    error = np.abs(decode_image(encode_image(SMOOTH, "jpeg")).astype(int) - SMOOTH)
    assert error.max() <= 12 and error.mean() < 2  # quality 95 quantizes in steps of 2 to 12


def test_column_of_images() -> None:
    images = [SMOOTH, PICTURES["noise"], SMOOTH[::-1].copy()]
    chunks = [
        pa.array([{"bytes": encode_image(image, "webp")} for image in part], schemas.IMAGE)
        for part in (images[:2], images[2:])
    ]
    np.testing.assert_array_equal(decode_images(pa.chunked_array(chunks)), np.stack(images))


@pytest.mark.parametrize("data", [b"", b"text"])
def test_data_that_are_no_image(data: bytes) -> None:
    with pytest.raises(ValueError, match="not an image"):
        decode_image(data)


def depth_maps(side: int) -> dict[str, NDArray[np.uint16]]:
    steps = np.arange(side * side, dtype=np.uint16).reshape(side, side)
    return {
        "noise": RNG.integers(0, 65536, (side, side), dtype=np.uint16),
        "nearest": np.zeros((side, side), np.uint16),
        "farthest": np.full((side, side), 65535, np.uint16),
        "jumps": (steps % 2 * 65535).astype(np.uint16),  # the largest differences there are
        "ramp": steps,
        "transposed": steps.T,
    }


@pytest.mark.parametrize("side", [1, 2, 8, 64])
@pytest.mark.parametrize("name", depth_maps(1))
def test_depth_comes_back_to_the_bit(side: int, name: str) -> None:
    depth = depth_maps(side)[name]
    found = depth_from_bytes(depth_to_bytes(depth), side)
    np.testing.assert_array_equal(found, depth)
    assert found.dtype == np.uint16 and found.flags.writeable


def test_smooth_depth_is_small() -> None:
    y, x = np.mgrid[:256, :256] / 256
    depth = np.rint(65535 * (0.5 + 0.3 * np.sin(5 * x) * np.cos(3 * y))).astype(np.uint16)
    assert len(depth_to_bytes(depth)) < 0.25 * depth.nbytes  # second differences of a few levels: below 4 bits a value


def test_real_depth_is_smaller_than_a_png(real_rgbd: Path) -> None:
    files = sorted(real_rgbd.glob("*_depth.png"))[:6]
    maps = [np.asarray(Image.open(file)).astype(np.uint16) for file in files]
    ours = sum(len(depth_to_bytes(depth)) for depth in maps)
    assert ours < 0.75 * sum(len(cv2.imencode(".png", depth)[1]) for depth in maps)  # measured: 0.64


def test_no_depth_is_no_bytes() -> None:
    assert depth_to_bytes(np.empty((0, 0), np.uint16)) == b""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"junk",
        depth_to_bytes(np.zeros((3, 3), np.uint16)),
        depth_to_bytes(np.zeros((256, 256), np.uint16)),
        depth_to_bytes(np.zeros((4, 4), np.uint16))[:-1],
        pa.compress(bytes(10**8), "zstd", asbytes=True),  # would fill memory if its size were believed
    ],
    ids=["nothing", "junk", "smaller", "larger", "cut off", "bomb"],
)
def test_bad_depth_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a depth map of 4x4"):
        depth_from_bytes(data, 4)


def test_maps_are_averaged_over_areas_and_enlarged_linearly() -> None:
    values = np.random.default_rng(0).random((16, 12), np.float32)
    np.testing.assert_allclose(resize_map(values, 4, 3), values.reshape(4, 4, 3, 4).mean((1, 3)), rtol=1e-5)
    ramp = np.tile(np.arange(4, dtype=np.float32), (4, 1))
    centers = (np.arange(16) + 0.5) / 4 - 0.5
    np.testing.assert_allclose(resize_map(ramp, 16, 16), np.tile(centers.clip(0, 3), (16, 1)), atol=1e-6)

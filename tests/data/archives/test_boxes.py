"""Boxes cut what the authors' slices cut, also where EXIF turns the image."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from threedgp.data.archives.boxes import cut_out
from threedgp.data.archives.pictures import BadPicture

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def stored(pixels: np.ndarray, orientation: int, kind: str = "PNG") -> Image.Image:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, exif=exif)
    return Image.open(stream)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_box_is_meant_before_the_image_is_turned(orientation: int, kind: str) -> None:
    top, bottom, left, right = box = [2, 9, 3, 17]
    # Pillow turns the slice of the stored pixels as it turns the whole.
    expected = np.asarray(ImageOps.exif_transpose(stored(PIXELS[top:bottom, left:right].copy(), orientation)))
    np.testing.assert_array_equal(cut_out(stored(PIXELS, orientation, kind).fp.getvalue(), box), expected)


def test_edges() -> None:
    data = stored(PIXELS, 1).fp.getvalue()
    np.testing.assert_array_equal(cut_out(data, None), PIXELS)
    np.testing.assert_array_equal(cut_out(data, [0, 12, 0, 20]), PIXELS)
    np.testing.assert_array_equal(cut_out(data, [4, 13, -1, 21]), PIXELS[4:])  # a rounded-off pixel


@pytest.mark.parametrize("box", [[0, 300, 0, 200], [5, 5, 0, 9], [9, 5, 9, 0], [40, 50, 0, 10], [-9, -1, -9, -1]])
def test_box_of_another_image(box: list[int]) -> None:
    with pytest.raises(BadPicture, match="does not belong to an image of 20x12 pixels"):
        cut_out(stored(PIXELS, 1).fp.getvalue(), box)


@pytest.mark.parametrize("box", [[], [1, 2, 3], [0, 1, 0, None]])
def test_no_box(box: list[int]) -> None:
    with pytest.raises(BadPicture, match="is not a bounding box"):
        cut_out(stored(PIXELS, 1).fp.getvalue(), box)


@pytest.mark.parametrize("data", [b"", b"<html>gone</html>", b"\xff\xd8\xff\xe1"])
def test_no_image(data: bytes) -> None:
    with pytest.raises(BadPicture, match=r"no known image format|the file is empty"):
        cut_out(data, [0, 1, 0, 1])

"""Bounding boxes that come with images: the authors of SDIP publish photographs and a box to cut out of each."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags

from threedgp.data.archives.pictures import BadPicture, decode_picture, open_picture

Box = list[int]
"""Top, bottom, left, right: the pixels `[top:bottom, left:right]` of the image as it is stored, before its EXIF
orientation is applied."""

MIN_INSIDE = 0.5
"""A box with a smaller share of its area inside the image belongs to another image."""

_FLIPS_ROWS, _FLIPS_COLUMNS, _TRANSPOSES = (3, 4, 6, 7), (2, 3, 7, 8), (5, 6, 7, 8)
"""EXIF orientations by the operations that make the image upright: first flips, then the transposition."""


def parse_box(value: object) -> Box:
    """A list of four numbers as a box; fractions are rounded.

    Raises:
        TypeError: `value` is not a list of numbers.
        ValueError: it is another number of numbers, or one is not finite or does not fit in 32 bits.
    """
    if not isinstance(value, list):
        raise TypeError(f"{value} is not a box")
    if len(value) != 4 or not all(abs(edge) < 2**31 for edge in value):
        raise ValueError(f"{value} is not a box")
    return [round(edge) for edge in value]


def cut_out(data: bytes, box: Box | None) -> NDArray[np.uint8]:
    """The part `box` of an encoded image as upright RGB `[H, W, 3]`; the whole image if `box` is None.

    Raises:
        BadPicture: the image cannot be decoded, or the box does not belong to it.
    """
    if box is None:
        return decode_picture(data)
    top, bottom, left, right = upright_box(data, box)
    return decode_picture(data)[top:bottom, left:right]


def upright_box(data: bytes, box: Box) -> Box:
    """`box` in the upright image, clipped to it. Only the header of the image is read.

    Raises:
        BadPicture: the data are not an image, or most of the box lies outside of it.
    """
    with open_picture(data, load=False) as image:
        columns, rows = image.size
        orientation = 1
        with suppress(Exception):  # a broken EXIF block does not state the orientation
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            if image.format == "TIFF" and orientation in _TRANSPOSES:  # Pillow states the size of the upright image
                columns, rows = rows, columns
    if len(box) != 4 or None in box:
        raise BadPicture(f"{box} is not a bounding box")
    top, bottom = (min(max(edge, 0), rows) for edge in box[:2])
    left, right = (min(max(edge, 0), columns) for edge in box[2:])
    area = (box[1] - box[0]) * (box[3] - box[2])
    if area <= 0 or max(bottom - top, 0) * max(right - left, 0) < MIN_INSIDE * area:
        raise BadPicture(f"the bounding box {box} does not belong to an image of {columns}x{rows} pixels")
    if orientation in _FLIPS_ROWS:
        top, bottom = rows - bottom, rows - top
    if orientation in _FLIPS_COLUMNS:
        left, right = columns - right, columns - left
    return [left, right, top, bottom] if orientation in _TRANSPOSES else [top, bottom, left, right]

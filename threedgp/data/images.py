"""How shards store pictures (differences, WebP or PNG, all lossless, or JPEG; RGB, 8 bits) and depth maps (16 bits).

Sizes and rates of all candidates, and why these are the defaults: docs/data_formats.md.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from threedgp.data.differences import (
    MAGIC,
    along_both_axes,
    compress,
    decompress,
    pack_picture,
    picture_size,
    summed,
    unpack_picture,
)

Encoding = Literal["differences", "webp", "png", "jpeg"]
"""Differences, WebP and PNG keep every pixel; JPEG has quality 95. All but the first are files of their own."""

PNG = [cv2.IMWRITE_PNG_COMPRESSION, 3, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
"""Of all filters, differences to the row above are undone fastest; on photographs they cost no size."""
JPEG = [
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,  # small pictures would lose visible colour at half the resolution
]
WEBP = {"lossless": True, "method": 0, "quality": 0}
"""Least effort: more takes ten times as long for a tenth of the size, and decodes no faster."""

BIAS = 128
"""Makes small differences of either sign positive, so that their high bytes are all zero."""


def encode_image(image: NDArray[np.uint8], encoding: Encoding) -> bytes:
    """Encode an RGB picture `[H, W, 3]`; JPEG keeps the full colour resolution."""
    if encoding == "differences":
        return pack_picture(image)
    if encoding == "webp":  # by Pillow: OpenCV cannot be told the effort
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "WEBP", **WEBP)
        return stream.getvalue()
    suffix, settings = (".png", PNG) if encoding == "png" else (".jpg", JPEG)
    return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)[1].tobytes()


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """Decode what `encode_image` made, to RGB `[H, W, 3]`.

    Raises:
        ValueError: `data` is no picture.
    """
    if not _is_differences(data):
        return _decode(data, cv2.IMREAD_COLOR_RGB)
    planes = np.empty((3, *picture_size(data)), np.uint8)
    unpack_picture(data, planes)
    return cv2.merge(list(planes))


def decode_planes(data: bytes | pa.Buffer, planes: NDArray[np.uint8]) -> None:
    """Decode what `encode_image` made into `planes`, RGB `[3, H, W]`.

    Raises:
        ValueError: `data` is no picture, or one of another size.
    """
    if _is_differences(data):
        _expect_size(planes, *picture_size(data))
        unpack_picture(data, planes)
    else:
        bgr = _decode(data, cv2.IMREAD_COLOR)
        _expect_size(planes, *bgr.shape[:2])
        cv2.mixChannels([bgr], [planes[0], planes[1], planes[2]], [2, 0, 1, 1, 0, 2])


def _expect_size(planes: NDArray[np.uint8], height: int, width: int) -> None:
    if (height, width) != planes.shape[1:]:
        raise ValueError(f"the picture has {width}x{height} pixels, not {planes.shape[2]} a side")


def _is_differences(data: bytes | pa.Buffer) -> bool:
    return bytes(memoryview(data)[: len(MAGIC)]) == MAGIC


def _decode(data: bytes | pa.Buffer, colours: int) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), colours) if len(data) else None
    if image is None:
        raise ValueError("these bytes are no picture")
    return image


def depth_to_bytes(depth: NDArray[np.uint16]) -> bytes:
    """Column `depth`: differences along both axes, low bytes before high bytes, under Zstandard; lossless.

    Depth is smooth, so differences are small. No map (no elements) is no bytes.
    """
    if not depth.size:
        return b""
    change = along_both_axes(depth) + np.uint16(BIAS)
    return compress(np.stack([change & 255, change >> 8]).astype(np.uint8))


def depth_from_bytes(data: bytes | pa.Buffer, resolution: int) -> NDArray[np.uint16]:
    """What `depth_to_bytes` made, `[resolution, resolution]`.

    Raises:
        ValueError: `data` is damaged, or a map of another size.
    """
    try:
        low, high = np.split(decompress(data, 2 * resolution, resolution), 2)
    except ValueError:
        raise ValueError(f"these bytes are no depth map of {resolution}x{resolution} values") from None
    # All modulo 2^16, so that every map comes back exactly.
    depth = summed(high).astype(np.uint16)
    depth <<= 8
    depth += summed(low).astype(np.uint16)
    depth -= _summed_bias(resolution)
    return depth


@lru_cache(maxsize=4)
def _summed_bias(resolution: int) -> NDArray[np.uint16]:
    count = np.arange(1, resolution + 1, dtype=np.uint16)
    return np.multiply.outer(count * np.uint16(BIAS), count)

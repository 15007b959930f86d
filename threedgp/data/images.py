"""Encoded images (lossless WebP or PNG, or JPEG) and depth maps (16 bits, lossless) of the shards; sizes of maps.

docs/data_formats.md compares the candidates by size and speed.
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

Encoding = Literal["webp", "png", "jpeg"]
"""WebP and PNG are lossless; JPEG has quality 95."""

PNG = [cv2.IMWRITE_PNG_COMPRESSION, 3, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
"""The filter "up" decodes faster than the others and compresses photographs as well."""
JPEG = [
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,  # chroma subsampling is visible at small resolutions
]
WEBP = {"lossless": True, "method": 0, "quality": 0}
"""The lowest effort: the highest takes 60 times as long, saves 14 % and decodes no faster."""

ZSTD = pa.Codec("zstd", 1)
"""Higher levels do not make depth maps smaller."""
BIAS = 128
"""Added to the differences of depth maps, so that the high byte of a small one is zero whatever its sign."""


def encode_image(image: NDArray[np.uint8], encoding: Encoding) -> bytes:
    """Encode an RGB image `[H, W, 3]`."""
    if encoding == "webp":  # OpenCV has no option for the effort
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "WEBP", **WEBP)
        return stream.getvalue()
    suffix, settings = (".png", PNG) if encoding == "png" else (".jpg", JPEG)
    return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)[1].tobytes()


def decode_image(data: bytes | pa.Buffer) -> NDArray[np.uint8]:
    """Decode an image of any format that OpenCV reads to RGB `[H, W, 3]`.

    Raises:
        ValueError: `data` is not an image.
    """
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if len(data) else None
    if image is None:
        raise ValueError("the data are not an image")
    return image


def encoded_images(column: pa.ChunkedArray) -> pa.BinaryArray:
    """The encoded images of a column `image` (`schemas.IMAGE`)."""
    return column.combine_chunks().field("bytes")


def decode_images(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    """Decode a column `image` whose images all have one size to RGB `[N, H, W, 3]`."""
    return np.stack([decode_image(data.as_buffer()) for data in encoded_images(column)])


def resize_map(values: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize a map `[h, w]`: area averaging to reduce it, bilinear interpolation to enlarge it."""
    method = cv2.INTER_AREA if len(values) > height else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(values, np.float32), (width, height), interpolation=method)


def same_aspect(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether two sizes have one aspect ratio, up to the rounding of one of them."""
    (rows, columns), (height, width) = first, second
    return abs(rows * width - columns * height) <= max(rows, columns, height, width)


def depth_to_bytes(depth: NDArray[np.uint16]) -> bytes:
    """Compress a depth map without loss; the empty map gives no bytes.

    Depth is smooth, so the second differences along both axes are small. Their low bytes come first, then their high
    bytes, which are nearly all zero; Zstandard compresses both.
    """
    if not depth.size:
        return b""
    zero = np.uint16(0)  # everything is modulo 2^16
    differences = np.diff(np.diff(depth, axis=0, prepend=zero), axis=1, prepend=zero) + np.uint16(BIAS)
    return ZSTD.compress(np.stack([differences & 255, differences >> 8]).astype(np.uint8).tobytes(), asbytes=True)


def depth_from_bytes(data: bytes | pa.Buffer, resolution: int) -> NDArray[np.uint16]:
    """Decompress a depth map of `depth_to_bytes`, `[resolution, resolution]`.

    Raises:
        ValueError: `data` are damaged, or the map has another size.
    """
    try:
        planes = np.frombuffer(ZSTD.decompress(data, 2 * resolution**2), np.uint8).reshape(2, resolution, resolution)
    except OSError:
        raise ValueError(f"the data are not a depth map of {resolution}x{resolution} values") from None
    low, high = (cv2.integral(plane)[1:, 1:].astype(np.uint16) for plane in planes)
    depth = high << 8  # a cumulative sum along both axes undoes the differences
    depth += low
    depth -= _summed_bias(resolution)
    return depth


@lru_cache(maxsize=4)
def _summed_bias(resolution: int) -> NDArray[np.uint16]:
    count = np.arange(1, resolution + 1, dtype=np.uint16)
    return np.multiply.outer(count * np.uint16(BIAS), count)

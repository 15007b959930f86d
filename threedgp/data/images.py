"""How shards store pictures (WebP or PNG, lossless, or JPEG; RGB, 8 bits) and depth maps (16 bits, differences).

Sizes and rates of all candidates, and why these are the defaults: docs/data_formats.md.
"""

from __future__ import annotations

import io
from typing import Literal

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

Encoding = Literal["webp", "png", "jpeg"]
"""WebP and PNG keep every pixel; JPEG has quality 95."""

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

ZSTD = pa.Codec("zstd", 1)
"""Depth maps hardly shrink further at higher levels."""
BIAS = 128
"""Makes small differences of either sign positive, so that their high bytes are all zero."""


def encode_image(image: NDArray[np.uint8], encoding: Encoding) -> bytes:
    """Encode an RGB picture `[H, W, 3]`; JPEG keeps the full colour resolution."""
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
    return _decode(data, cv2.IMREAD_COLOR_RGB)


def decode_planes(data: bytes | pa.Buffer, planes: NDArray[np.uint8]) -> None:
    """Decode what `encode_image` made into `planes`, RGB `[3, H, W]`.

    Raises:
        ValueError: `data` is no picture, or one of another size.
    """
    bgr = _decode(data, cv2.IMREAD_COLOR)
    if bgr.shape[:2] != planes.shape[1:]:
        raise ValueError(f"the picture has {bgr.shape[1]}x{bgr.shape[0]} pixels, not {planes.shape[2]} a side")
    cv2.mixChannels([bgr], [planes[0], planes[1], planes[2]], [2, 0, 1, 1, 0, 2])


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
    change = np.diff(np.diff(depth, axis=0, prepend=np.uint16(0)), axis=1, prepend=np.uint16(0)) + np.uint16(BIAS)
    # All modulo 2^16, so that every map comes back exactly.
    return ZSTD.compress(np.stack([change & 255, change >> 8]).astype(np.uint8).tobytes(), asbytes=True)


def depth_from_bytes(data: bytes | pa.Buffer, resolution: int) -> NDArray[np.uint16]:
    """What `depth_to_bytes` made, `[resolution, resolution]`.

    Raises:
        ValueError: `data` is damaged, or a map of another size.
    """
    try:
        unpacked = ZSTD.decompress(data, 2 * resolution**2)
    except OSError:
        raise ValueError(f"these bytes are no depth map of {resolution}x{resolution} values") from None
    low, high = np.frombuffer(unpacked, np.uint8).reshape(2, resolution, resolution)
    depth = high.astype(np.uint16)
    depth <<= 8
    depth |= low
    depth -= BIAS
    np.cumsum(depth, axis=1, out=depth)
    return np.cumsum(depth, axis=0, out=depth)

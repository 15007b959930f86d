"""Lossless packing of planes of 8 bits: differences along both axes, under Zstandard.

A value less those to its left and above it, plus the one above left of it, is near zero wherever planes are smooth; all
modulo 256, so that every value comes back. Summing along both axes undoes it, and that is a summed-area table (Crow
1984), which OpenCV computes in a few microseconds. Photographs become as small as under lossless WebP, in a third of
its time, and are read three times as fast (docs/data_formats.md).

Bytes that were damaged and still unpack to the right size are not noticed here; shards have checksums.
"""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

ZSTD = pa.Codec("zstd", 1)
"""Neither pictures nor depth maps shrink further at higher levels."""
MAGIC = b"3DPD"
_HEADER = struct.Struct("<4sHH")
"""Of a picture: magic, height, width."""
MOST_PIXELS = 2**21
"""Of a picture: sums over its three planes stay below 2^31."""


def along_both_axes(values: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Differences along the last two axes, modulo the range of the dtype; in front of the first stands 0."""
    rows = values.copy()
    rows[..., 1:, :] -= values[..., :-1, :]
    both = rows.copy()
    both[..., 1:] -= rows[..., :-1]
    return both


def compress(differences: NDArray[np.uint8]) -> bytes:
    """Under Zstandard."""
    return ZSTD.compress(differences.tobytes(), asbytes=True)


def decompress(data: bytes | pa.Buffer, height: int, width: int) -> NDArray[np.uint8]:
    """What went into `compress`, `[H, W]`.

    Raises:
        ValueError: `data` does not unpack to this size.
    """
    try:
        unpacked = ZSTD.decompress(data, height * width)
    except OSError:
        raise ValueError(f"these bytes are no {height}x{width} differences") from None
    return np.frombuffer(unpacked, np.uint8).reshape(height, width)


def summed(differences: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The sum of all above and left of each place, itself included: `[H, W]`, rows apart in memory by one more."""
    return cv2.integral(differences)[1:, 1:]


def pack_picture(image: NDArray[np.uint8]) -> bytes:
    """An RGB picture `[H, W, 3]`, with its size: its planes one below the other, red and blue less green.

    Raises:
        ValueError: it is no uint8 picture, has none or more than 2^21 pixels, or a side of more than 65535.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"expected a picture of uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
    height, width = image.shape[:2]
    if height * width > MOST_PIXELS or max(height, width) > 0xFFFF:
        raise ValueError(f"a picture of {width}x{height} pixels is too large for differences")
    red, green, blue = image.transpose(2, 0, 1)
    planes = np.concatenate([red - green, green, blue - green])
    return _HEADER.pack(MAGIC, height, width) + compress(along_both_axes(planes))


def picture_size(data: bytes | pa.Buffer) -> tuple[int, int]:
    """Height and width of what `pack_picture` made.

    Raises:
        ValueError: `data` is none of it.
    """
    head = bytes(memoryview(data)[: _HEADER.size])
    if len(head) < _HEADER.size:
        raise ValueError("these bytes are no picture")
    magic, height, width = _HEADER.unpack(head)
    if magic != MAGIC or not 0 < height * width <= MOST_PIXELS:
        raise ValueError("these bytes are no picture")
    return height, width


def unpack_picture(data: bytes | pa.Buffer, planes: NDArray[np.uint8]) -> None:
    """Write what `pack_picture` made into `planes`, RGB `[3, H, W]`.

    Raises:
        ValueError: `data` is no picture, or one of another size.
    """
    _, height, width = planes.shape
    sums = summed(decompress(pa.py_buffer(data)[_HEADER.size :], 3 * height, width))
    for number, plane in enumerate(planes):
        np.copyto(plane, sums[number * height : (number + 1) * height], casting="unsafe")  # modulo 256
    planes[0] += planes[1]
    planes[2] += planes[1]

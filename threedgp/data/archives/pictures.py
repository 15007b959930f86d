"""Decoding of image files of any format, mode, bit depth and orientation, some of them broken."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".jp2", ".avif"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".tga"}
)
"""Files with other suffixes are left out."""

DEPTH_SUFFIXES = ("_depth.png", "_depth.npy", ".png", ".npy")
"""Endings of the file of a depth map, after the path of its image without suffix; the first existing file is used."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "JPEG2000", "AVIF", "PPM", "TGA")
"""Formats that are decoded, whatever the suffix. Pillow has more, such as EPS, for which it would start Ghostscript."""

MAX_FILE_BYTES = 256 * 2**20
"""Larger files are refused before they are read."""

WHITE_IS_ZERO = 262, 0
"""Tag of a TIFF file, and its value if small numbers are bright."""

# Pillow warns above its limit and raises an error above twice that; `open_picture` raises one at the limit.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Broken metadata, such as an EXIF block, in images whose pixels are intact.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


class BadPicture(Exception):
    """An image that cannot be used; the text is the reason."""


def check_size(size: int) -> BadPicture | None:
    """Why a file of `size` bytes is not read; None if it is small enough."""
    if size <= MAX_FILE_BYTES:
        return None
    return BadPicture(f"the file has {size} bytes, more than the limit of {MAX_FILE_BYTES}")


def decode_picture(data: bytes) -> NDArray[np.uint8]:
    """Decode an image to upright RGB `[H, W, 3]`.

    EXIF orientation is applied, transparent pixels are blended with white, 16 bits are scaled to 8, and the first frame
    of an animation is taken. Color profiles are ignored, as in the data loaders of PyTorch.

    Raises:
        BadPicture: it is broken, too large, or has pixels that cannot be converted to sRGB.
    """
    with open_picture(data) as image:
        with suppress(Exception):  # a broken EXIF block does not state the orientation
            ImageOps.exif_transpose(image, in_place=True)
        if image.mode == "F":
            raise BadPicture("floating-point pixels have no known scale")
        if image.mode.startswith("I"):  # Pillow's own conversion would cut values off at 255
            values = _sixteen_bits(image)
            values[values == image.info.get("transparency", -1)] = 65535
            gray = np.rint(values / 257).astype(np.uint8)
            return np.repeat(gray[..., None], 3, axis=2)
        if image.has_transparency_data:
            layer = image.convert("RGBA")
            return np.array(Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB"))
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def decode_depth(data: bytes) -> NDArray[np.float32]:
    """Decode a 16-bit depth map to `[H, W]` in [0, 1], larger = farther.

    Raises:
        BadPicture: it is broken, or does not have one channel of 16 bits.
    """
    with open_picture(data) as image:
        if not image.mode.startswith("I"):
            raise BadPicture(f"the depth map has pixels of kind {image.mode}, not one channel of 16 bits")
        return (_sixteen_bits(image) / 65535).astype(np.float32)


def read_depth_file(file: Path) -> NDArray[np.float32]:
    """Depth `[H, W]` of a 16-bit PNG or a NumPy array, larger = farther; infinite where float32 overflows.

    Raises:
        BadPicture: the file holds something else.
        OSError: the file cannot be read.
    """
    if file.suffix.lower() == ".png":
        return decode_depth(file.read_bytes())
    try:
        # Unlike np.load, this reads neither zip archives nor pickles. Memory-mapped, since a header may state any size.
        depth = np.squeeze(np.lib.format.open_memmap(file, mode="r"))
    except OSError:
        raise
    except Exception:  # a damaged header raises whatever Python's parser does
        raise BadPicture(f"{file.name} is not an array of numbers") from None
    if depth.ndim != 2 or not depth.size or depth.dtype.kind not in "fiu":
        raise BadPicture(f"{file.name} holds {depth.dtype} of shape {depth.shape}, not a map [H, W] of numbers")
    with np.errstate(over="ignore"):
        return np.array(depth, np.float32)


def _sixteen_bits(image: Image.Image) -> NDArray[np.int64]:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise BadPicture("pixels of more than 16 bits have no known scale")
    tag, value = WHITE_IS_ZERO
    if image.format == "TIFF" and image.tag_v2.get(tag) == value:  # Pillow does this for 8 bits only
        return 65535 - values
    return values


@contextmanager
def open_picture(data: bytes, load: bool = True) -> Iterator[Image.Image]:
    """The decoded image, or only its header. Any exception of a decoder becomes a BadPicture."""
    if not data:
        raise BadPicture("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise BadPicture(
                    f"{image.width}x{image.height} pixels are more than the limit of {Image.MAX_IMAGE_PIXELS} "
                    "(a decompression bomb?)"
                )
            if load:
                image.load()
            yield image
    except (BadPicture, MemoryError):
        raise
    except Image.UnidentifiedImageError:
        raise BadPicture("no known image format") from None
    except Exception as error:  # decoders raise many kinds of exceptions on broken files
        raise BadPicture(re.sub(r" ?<[^>]*>", "", str(error)) or type(error).__name__) from None

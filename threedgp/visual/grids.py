"""Grids of tiles, depth and normals as colors, PNG files. Images are uint8 RGB, `[H, W, 3]`."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from threedgp import __version__
from threedgp.data.images import encode_image
from threedgp.runtime.atomic import write_bytes

GAP = 2
"""Pixels between tiles, before any enlargement. Even, so that a video frame keeps even sides."""
GAP_COLOR = 128
LABEL_HEIGHT, FONT_SIZE = 18, 13
"""Pixels. The font comes with Pillow; it has the letters of European languages."""
DEPTH_CUT = 1
"""Percent of depth values beyond each end of the color scale, since one far pixel would darken all others."""
MAX_DEPTH_VALUE = 65535
"""Largest value of a 16-bit PNG."""


def grid(tiles: np.ndarray, columns: int) -> np.ndarray:
    """Tiles `[N, h, w, 3]` in rows of `columns`, with a gap around each."""
    count, height, width = tiles.shape[:3]
    rows = -(-count // columns)
    cells = np.full((rows * columns, height + GAP, width + GAP, 3), GAP_COLOR, np.uint8)
    cells[:count, GAP:, GAP:] = tiles
    sheet = cells.reshape(rows, columns, *cells.shape[1:]).swapaxes(1, 2)
    sheet = sheet.reshape(rows * (height + GAP), columns * (width + GAP), 3)
    return np.pad(sheet, ((0, GAP), (0, GAP), (0, 0)), constant_values=GAP_COLOR)


def beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Tiles `[N, h, 2 w, 3]` that each show a left and a right image `[N, h, w, 3]`."""
    return np.concatenate([left, right], axis=2)


def enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    """The image `[..., H, W, 3]` with every pixel repeated `factor` times along both sides."""
    return image.repeat(factor, axis=-3).repeat(factor, axis=-2)


def enlargement(resolution: int, max_size: int) -> int:
    """The largest integer factor, at least 1, that keeps images of `resolution` within `max_size` pixels."""
    return max(max_size // resolution, 1)


def depth_bounds(depth: np.ndarray) -> tuple[float, float]:
    """The range of all depth maps `[..., H, W]` without the outermost `DEPTH_CUT` percent."""
    near, far = np.percentile(depth, (DEPTH_CUT, 100 - DEPTH_CUT))
    return near, far


def depth_colors(depth: np.ndarray, bounds: tuple[float, float] | None = None) -> np.ndarray:
    """Depth maps `[..., H, W]` as colors `[..., H, W, 3]`, from the near bound (bright) to the far one; by default
    `depth_bounds`."""
    near, far = bounds or depth_bounds(depth)
    nearness = (far - depth.astype(np.float64)) / max(far - near, 1e-12)
    levels = (nearness.clip(0, 1) * 255).round().astype(np.uint8)
    colors = cv2.applyColorMap(levels.reshape(-1, levels.shape[-1]), cv2.COLORMAP_INFERNO)
    return cv2.cvtColor(colors, cv2.COLOR_BGR2RGB).reshape(*depth.shape, 3)


def normal_colors(normals: np.ndarray) -> np.ndarray:
    """Normals `[..., 3]` in camera space as uint8 colors: red to the right, green up, blue towards the viewer.

    The normals are those of the rendered depth map (`threedgp.camera.normals`). They need no gradient of the density
    and show the noise and the steps of a depth map; at the border of an object the normal is that of the step.
    """
    return ((normals + 1) * 127.5).round().astype(np.uint8)


def _labeled(sheet: np.ndarray, labels: Sequence[str], columns: int, cell: tuple[int, int]) -> np.ndarray:
    """A sheet of `grid` with a label above each tile, broken at commas to fit the width of the tile; `cell` is the size
    of a tile with its gap, height first."""
    rows, font = -(-len(labels) // columns), ImageFont.load_default(FONT_SIZE)
    texts = [_lines(label, cell[1] - 4, font) for label in labels]
    strip, background = LABEL_HEIGHT * max(map(len, texts)), (GAP_COLOR,) * 3
    page = Image.new("RGB", (sheet.shape[1], len(sheet) + rows * strip), background)
    for row in range(rows):
        page.paste(Image.fromarray(sheet[row * cell[0] :]), (0, row * cell[0] + (row + 1) * strip))
    draw = ImageDraw.Draw(page)
    for index, lines in enumerate(texts):
        row, column = divmod(index, columns)
        left, top = column * cell[1], row * (cell[0] + strip)
        draw.rectangle((left, top, page.width, top + strip - 1), background)  # ends the label before
        for number, line in enumerate(lines):
            draw.text((left + 4, top + number * LABEL_HEIGHT + 1), line, "black", font)
    return np.asarray(page)


def _lines(label: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """The label in lines of at most `width` pixels, broken at commas only."""
    lines: list[str] = []
    for part in label.split(", "):
        if lines and font.getlength(f"{lines[-1]}, {part}") <= width:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return lines


def scene_text(seed: int, label: int | None, class_name: str, truncation: float, sha256: str) -> dict[str, str]:
    """Metadata of an image: the version, the model's checksum, and the scene."""
    text = {"Software": f"threedgp {__version__}", "model sha256": sha256, "seed": str(seed)}
    text |= {} if label is None else {"class": f"{label} {class_name}"}
    return text | {"truncation": f"{truncation:g}"}


def png_with_text(png: bytes, text: Mapping[str, str]) -> bytes:
    """A PNG file with metadata, as international textual data (PNG, section 11.3.3.4) behind its header."""
    chunks = []
    for key, value in text.items():
        data = b"iTXt" + key.encode("latin-1") + bytes(5) + value.encode()
        chunks.append(struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data)))
    header = 33  # bytes of the signature and of the chunk IHDR
    return png[:header] + b"".join(chunks) + png[header:]


def write_png(target: Path, image: np.ndarray, text: Mapping[str, str] | None = None) -> None:
    """Write an image `[H, W, 3]` with metadata `text`, atomically."""
    write_bytes(target, png_with_text(encode_image(np.ascontiguousarray(image), "png"), text or {}))


def grid_png(tiles: np.ndarray, columns: int, tile_size: int, labels: Sequence[str] | None = None) -> bytes:
    """A PNG file of tiles `[N, h, w, 3]` in rows of `columns`, each below its label; small tiles are enlarged to about
    `tile_size` pixels in height."""
    factor = enlargement(tiles.shape[1], tile_size)
    sheet = enlarge(grid(tiles, columns), factor)
    if labels:
        height, width = tiles.shape[1:3]
        sheet = _labeled(sheet, labels, columns, (factor * (height + GAP), factor * (width + GAP)))
    return encode_image(np.ascontiguousarray(sheet), "png")


def write_grid(
    target: Path, tiles: np.ndarray, columns: int, tile_size: int, labels: Sequence[str] | None = None
) -> None:
    """Write a grid of tiles, atomically; arguments as in `grid_png`."""
    write_bytes(target, grid_png(tiles, columns, tile_size, labels))


def write_depth(
    target: Path, depth: np.ndarray, bounds: tuple[float, float], text: Mapping[str, str] | None = None
) -> None:
    """Write a depth map `[R, R]` in scene units as 16-bit PNG with metadata `text`, atomically; 0 and 65535 are the
    near and far bound."""
    near, far = bounds
    values = (depth.astype(np.float64) - near) / (far - near) * MAX_DEPTH_VALUE
    png = cv2.imencode(".png", values.round().clip(0, MAX_DEPTH_VALUE).astype(np.uint16))[1].tobytes()
    write_bytes(target, png_with_text(png, text or {}))


def read_depth(file: Path, bounds: tuple[float, float]) -> np.ndarray:
    """The depth map that `write_depth` wrote, float32 `[R, R]`. Raises ValueError if the file is not a 16-bit depth
    map."""
    near, far = bounds
    data = np.frombuffer(file.read_bytes(), np.uint8)
    values = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    if values is None or values.ndim != 2 or values.dtype != np.uint16:
        raise ValueError(f"{file}: not a 16-bit depth map")
    return (near + values.astype(np.float64) / MAX_DEPTH_VALUE * (far - near)).astype(np.float32)

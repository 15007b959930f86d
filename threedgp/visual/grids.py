"""Pictures and depth maps arranged for the eye. Everything is uint8 RGB, `[H, W, 3]`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from threedgp.data.images import encode_image
from threedgp.runtime.atomic import write_bytes

GAP = 2
"""Pixels between tiles, before any enlargement. Even, so that a video frame keeps even sides."""
GAP_COLOR = 128
DEPTH_CUT = 1
"""Percent of a set's depth values beyond each end of the colour scale: a single far pixel would darken the rest."""


def grid(tiles: np.ndarray, columns: int) -> np.ndarray:
    """Tiles `[N, h, w, 3]` in rows of `columns`, with a gap around each."""
    count, height, width = tiles.shape[:3]
    rows = -(-count // columns)
    sheet = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), GAP_COLOR, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = (
            place * (side + GAP) + GAP for place, side in zip(divmod(index, columns), (height, width), strict=True)
        )
        sheet[top : top + height, left : left + width] = tile
    return sheet


def beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Tiles `[N, h, w, 3]` that each show a left and a right picture: `[N, h, 2 w, 3]`."""
    return np.concatenate([left, right], axis=2)


def enlarge(picture: np.ndarray, factor: int) -> np.ndarray:
    """Every pixel becomes `factor` x `factor` pixels; `picture` is `[..., H, W, 3]`."""
    return picture.repeat(factor, axis=-3).repeat(factor, axis=-2)


def enlargement(resolution: int, wanted: int) -> int:
    """The largest whole factor that keeps pictures of `resolution` within `wanted` pixels, at least 1."""
    return max(wanted // resolution, 1)


def depth_colors(depth: np.ndarray, bounds: tuple[float, float] | None = None) -> np.ndarray:
    """Depth maps `[..., H, W]` as colours `[..., H, W, 3]`: near is bright.

    `bounds` are the depths of the brightest and darkest colour; None = those of the whole set, but for its
    outermost percents.
    """
    near, far = bounds or np.percentile(depth, (DEPTH_CUT, 100 - DEPTH_CUT))
    nearness = (far - depth.astype(np.float64)) / max(far - near, 1e-12)
    levels = (nearness.clip(0, 1) * 255).round().astype(np.uint8)
    colors = cv2.applyColorMap(levels.reshape(-1, levels.shape[-1]), cv2.COLORMAP_INFERNO)
    return cv2.cvtColor(colors, cv2.COLOR_BGR2RGB).reshape(*depth.shape, 3)


def write_png(target: Path, picture: np.ndarray) -> None:
    """Write an RGB picture `[H, W, 3]`, all or nothing."""
    write_bytes(target, encode_image(np.ascontiguousarray(picture), "png"))

"""Pictures as the page shows them."""

from __future__ import annotations

import cv2
import numpy as np

GROUND = 24
"""Grey beside the picture, where the page is wider or higher."""
LEAST_SENT = 512
"""Pixels along a side. Drafts are enlarged: the browser would let them melt into the ground at their border."""


def on_page(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """A square picture `[R, R, 3]` on a page of this shape, uint8 `[H, W, 3]`, no larger than the page.

    The browser stretches what it gets over the page, so the ground belongs to the picture. On a wide page it stands in
    the middle; on a high one at the top, for the controls cover the rest.
    """
    side = min(max(len(picture), LEAST_SENT), width, height)
    if side != len(picture):
        how = cv2.INTER_AREA if side < len(picture) else cv2.INTER_LINEAR
        picture = cv2.resize(picture, (side, side), interpolation=how)
    scale = side / min(width, height)
    rows, columns = max(round(height * scale), side), max(round(width * scale), side)
    page = np.full((rows, columns, 3), GROUND, np.uint8)
    left = (columns - side) // 2
    page[:side, left : left + side] = picture
    return page

"""Synthetic images with the statistics of photographs, for benchmarks without a data set."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def textured(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """RGB noise with the spectrum of photographs, about 1 / frequency: `[height, width, 3]`."""
    random = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.float32)
    cell = max(height, width)
    while cell >= 1:
        shape = (height // cell + 2, width // cell + 2)
        gray, color = random.normal(size=(*shape, 1)), random.normal(size=(*shape, 3))
        layer = (gray + 0.3 * color).astype(np.float32)  # photographs differ more in brightness than in color
        picture += cell**0.7 * cv2.resize(layer, (width, height), interpolation=cv2.INTER_CUBIC)
        cell //= 2
    picture = (picture - picture.mean()) / picture.std() * 55 + 118
    return np.clip(picture, 0, 255).astype(np.uint8)

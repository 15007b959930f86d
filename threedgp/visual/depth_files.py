"""Rendered depth as files: PNG of 16 bits, larger = farther, one scale for all pictures of a model."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from threedgp.runtime.atomic import write_bytes

LARGEST = 65535


def write_depth(target: Path, depth: np.ndarray, bounds: tuple[float, float]) -> None:
    """Write a depth map `[R, R]` in scene units, all or nothing: 0 and 65535 stand for `bounds`, near and far."""
    near, far = bounds
    values = (depth.astype(np.float64) - near) / (far - near) * LARGEST
    write_bytes(target, cv2.imencode(".png", values.round().clip(0, LARGEST).astype(np.uint16))[1].tobytes())


def read_depth(file: Path, bounds: tuple[float, float]) -> np.ndarray:
    """What `write_depth` wrote, float32 `[R, R]`, to 1/65535 of the bounds' distance.

    Raises:
        ValueError: the file holds something else.
    """
    near, far = bounds
    data = np.frombuffer(file.read_bytes(), np.uint8)
    values = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    if values is None or values.ndim != 2 or values.dtype != np.uint16:
        raise ValueError(f"{file}: no depth map")
    return (near + values.astype(np.float64) / LARGEST * (far - near)).astype(np.float32)

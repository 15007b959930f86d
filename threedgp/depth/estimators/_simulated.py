"""True depth and field of view with the faults of real monocular estimators."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
from numpy.typing import NDArray

from threedgp.config import DepthConfig
from threedgp.data.source import RawPicture

FOV = 3
"""Column of `RawPicture.cameras`."""

# At strength 1, for depth scaled to [0, 1] between the nearest and the farthest pixel.
LOG_SCALE_STD, SHIFT_STD = 0.3, 0.3
LOG_GAMMA_STD = 0.25
LOG_FOV_STD = 0.15
"""Relative error of the field of view."""
MAX_NEAR_CUT = 0.15
"""Everything nearer than a random depth up to this one is as near as it."""
FLAT_BEYOND, MAX_LOG_FLATTENING = 0.6, 1.5
"""Depth beyond the first is compressed towards it, by at most exp(-second)."""
THIN_SHARE = 0.06
"""Parts narrower than this share of the image's side sink into what is behind them, mostly far ones."""
BLUR_RANGE = (0.005, 0.02)
"""Deviation of the blur as a share of the image's side."""
BIAS_STD, NOISE_STD = 0.05, 0.01
FIELD_CELLS = 4
"""Smooth random fields are drawn on a grid of this many cells a side and enlarged."""
FAILURE_SHARE = 0.04
"""Share of images whose map is plainly wrong: near and far exchanged, or a ramp unrelated to the scene."""


def depth_of(picture: RawPicture, config: DepthConfig, *, metric: bool = False) -> NDArray[np.float32] | None:
    """True depth, made inaccurate: every fault and the share of failures are scaled by `depth.strength`. The depth of a
    `metric` estimator is correct up to scale: it has no errors of the near plane, of gamma and of far depth.

    At 0 it is the truth exactly, at 1 it is like a real estimator. `depth.seed` and the id of the image decide all that
    is random. The random numbers do not depend on the strength, so maps of several strengths show the same faults, each
    scaled.
    """
    truth, strength = picture.depth, config.strength
    if truth is None:
        return None
    low, high = float(truth.min()), float(truth.max())
    if strength == 0 or not (np.isfinite([low, high]).all() and low < high):
        return truth
    random = _random(f"{config.seed}/{picture.id}")
    bend = 0.0 if metric else strength
    depth = _inaccurate(((truth - low) / (high - low)).astype(np.float32), strength, bend, random)

    factor = np.exp(strength * LOG_SCALE_STD * random.normal())
    shift = low * factor if metric else low + strength * SHIFT_STD * random.normal()
    return depth * np.float32((high - low) * factor) + np.float32(shift)


def fov_of(picture: RawPicture, config: DepthConfig) -> float | None:
    """True field of view times a log-normal error, which is random as in `depth_of`; None if the truth is unknown."""
    if picture.cameras is None:
        return None
    error = LOG_FOV_STD * _random(f"{config.seed}/{picture.id}/fov").normal()
    return float(picture.cameras[FOV] * np.exp(config.strength * error))


def _random(key: str) -> np.random.Generator:
    return np.random.default_rng(np.frombuffer(hashlib.sha256(key.encode()).digest(), np.uint32))


def _inaccurate(
    depth: NDArray[np.float32], strength: float, bend: float, random: np.random.Generator
) -> NDArray[np.float32]:
    """Depth `[H, W]` in [0, 1] with all faults but scale and shift; `bend` is the strength of those that bend it."""
    side = max(depth.shape)
    fails, reversed_map = random.uniform(size=2) < (strength * FAILURE_SHARE, 0.5)
    if fails:
        ramp = np.broadcast_to(np.linspace(1, 0, len(depth), dtype=np.float32)[:, None], depth.shape)
        depth = 1 - depth if reversed_map else ramp.copy()

    depth = np.maximum(depth, bend * random.uniform(0, MAX_NEAR_CUT)).astype(np.float32)
    slope = np.exp(-bend * random.uniform(0, MAX_LOG_FLATTENING))
    depth = np.minimum(depth, FLAT_BEYOND) + np.float32(slope) * np.maximum(depth - FLAT_BEYOND, 0)
    depth **= np.exp(bend * LOG_GAMMA_STD * random.normal())

    # Closing fills narrow valleys of depth: what is thin and near takes the depth around it.
    kernel = np.ones((2 * round(THIN_SHARE * side / 2) + 1,) * 2, np.uint8)
    filled = cv2.morphologyEx(depth, cv2.MORPH_CLOSE, kernel)
    lost = np.clip(strength * _smooth_field(random.uniform(0, 1, (FIELD_CELLS, FIELD_CELLS)), depth.shape), 0, 1)
    depth += lost * filled * (filled - depth)

    blur = strength * side * random.uniform(*BLUR_RANGE)
    depth = cv2.GaussianBlur(depth, (0, 0), blur, borderType=cv2.BORDER_REPLICATE)
    depth += _smooth_field(random.normal(0, strength * BIAS_STD, (FIELD_CELLS, FIELD_CELLS)), depth.shape)
    return depth + random.normal(0, strength * NOISE_STD, depth.shape).astype(np.float32)


def _smooth_field(cells: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float32]:
    return cv2.resize(cells.astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)

"""Estimator `simulated`: true depth with the errors of an off-the-shelf estimator.

The errors are an unknown scale and shift, a gamma curve, lost detail, a smooth bias, and noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from threedgp.data.source import RawPicture
from threedgp.depth.estimator import NO_DEPTH, EstimatorKind, Rejected

# At strength 1, for depth in [0, 1]; about the errors of LeReS on objects in front of a background.
LOG_SCALE_STD = 0.3
SHIFT_STD = 0.3
LOG_GAMMA_STD = 0.25
BLUR_RANGE = (0.005, 0.02)
"""Standard deviation of the blur, as a fraction of the image's side."""
BIAS_STD = 0.08
BIAS_CELLS = 4
"""The bias is drawn on a grid of 4x4 values and interpolated."""
NOISE_STD = 0.01


class SimulatedDepth:
    """Makes true depth inaccurate.

    Args:
        strength: scales every error; 0 = exactly the true depth.
        seed: of the random errors, together with the image's id.
    """

    name = "simulated"
    looks_at_pixels = False

    def __init__(self, strength: float, seed: int) -> None:
        self._strength, self._seed = strength, seed

    def estimate(self, pictures: Sequence[RawPicture]) -> list[NDArray[np.float32] | Rejected]:
        return [NO_DEPTH if picture.depth is None else self._distort(picture.id, picture.depth) for picture in pictures]

    def _distort(self, name: str, truth: NDArray[np.float32]) -> NDArray[np.float32]:
        low, high = float(truth.min()), float(truth.max())
        if self._strength == 0 or not (np.isfinite([low, high]).all() and low < high):
            return truth
        digest = hashlib.sha256(f"{self._seed}/{name}".encode()).digest()
        random, strength = np.random.default_rng(np.frombuffer(digest, np.uint32)), self._strength
        side = max(truth.shape)

        depth = ((truth - low) / (high - low)).astype(np.float32)
        depth **= np.exp(strength * LOG_GAMMA_STD * random.normal())
        blur = strength * side * random.uniform(*BLUR_RANGE)
        depth = cv2.GaussianBlur(depth, (0, 0), blur, borderType=cv2.BORDER_REPLICATE)
        bias = random.normal(0, strength * BIAS_STD, (BIAS_CELLS, BIAS_CELLS)).astype(np.float32)
        depth += cv2.resize(bias, truth.shape[::-1], interpolation=cv2.INTER_CUBIC)
        depth += random.normal(0, strength * NOISE_STD, truth.shape).astype(np.float32)
        scale = (high - low) * np.exp(strength * LOG_SCALE_STD * random.normal())
        shift = low + strength * SHIFT_STD * random.normal()
        return depth * np.float32(scale) + np.float32(shift)


ESTIMATOR = EstimatorKind(
    build=lambda config: SimulatedDepth(config.strength, config.seed),
    output="true depth of the procedural world, made inaccurate",
    source_depth=("true",),
)

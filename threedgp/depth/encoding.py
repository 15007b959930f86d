"""Depth maps in 16 bits: min-max scaled for each picture, larger = farther, the published protocol."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from threedgp.data.prepare import resize_depth
from threedgp.depth.estimator import Rejected

MAX_DEPTH = 65535


def encode(depth: NDArray[np.float32], resolution: int, clip_percentile: float = 0.0) -> NDArray[np.uint16] | Rejected:
    """Resize the square map `depth`, then scale it to 0..65535, `[resolution, resolution]`.

    Args:
        clip_percentile: values beyond this percentile at either end are cut off first: a sky or an outlier would
            press everything else into a few levels.
    """
    if not np.isfinite(depth).all():
        return Rejected("the depth map has values that are not finite")
    small = resize_depth(depth, resolution).astype(np.float64)
    low, high = np.percentile(small, [clip_percentile, 100 - clip_percentile])
    if not high - low > 1e-9 * max(abs(low), abs(high)):
        return Rejected("the depth map is constant")
    return np.rint((np.clip(small, low, high) - low) / (high - low) * MAX_DEPTH).astype(np.uint16)

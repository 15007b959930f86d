"""Non-flatness score of depth maps (3DGP, arXiv 2303.01416, sec. 4)."""

from __future__ import annotations

import numpy as np

BINS = 64


def non_flatness(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """exp(entropy) of the histogram of each depth map: a flat plane scores 1, the most is 64.

    Args:
        depth: `[N, H, W]` (or `[N, 1, H, W]`), in scene units; values outside of [near, far] are clamped.
        near, far: ends of the histogram's 64 bins, in scene units.

    Returns:
        float64 `[N]`; the score of a model is the mean.
    """
    depth = np.asarray(depth, dtype=np.float64).reshape(len(depth), -1).clip(near, far)
    bins = ((depth - near) * (BINS / (far - near))).astype(np.int64).clip(max=BINS - 1)
    rows = np.arange(len(depth))[:, None] * BINS
    share = np.bincount((rows + bins).ravel(), minlength=len(depth) * BINS).reshape(-1, BINS) / depth.shape[1]
    return np.exp(-np.sum(share * np.log(share, out=np.zeros_like(share), where=share > 0), axis=1))

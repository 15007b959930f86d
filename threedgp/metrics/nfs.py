"""Non-flatness score of depth maps (Skorokhodov et al. 2023 (3DGP), arXiv 2303.01416, sec. 4)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from threedgp.metrics._declaration import UNTRAINED, Metric, Value

NUM_BINS = 64


def non_flatness(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """exp(entropy) of the histogram of each depth map, float64 `[N]`: 1 for a flat plane, at most 64.

    Depth is `[N, H, W]` or `[N, 1, H, W]`; values outside of [near, far], the ends of the 64 bins, are clamped.
    """
    depth = np.asarray(depth, dtype=np.float64).reshape(len(depth), -1).clip(near, far)
    bins = ((depth - near) * (NUM_BINS / (far - near))).astype(np.int64).clip(max=NUM_BINS - 1)
    rows = np.arange(len(depth))[:, None] * NUM_BINS
    histograms = np.bincount((rows + bins).ravel(), minlength=len(depth) * NUM_BINS).reshape(-1, NUM_BINS)
    share = histograms / depth.shape[1]
    return np.exp(-np.sum(share * np.log(share, out=np.zeros_like(share), where=share > 0), axis=1))


def measure(nfs_depth: Iterable[np.ndarray], depth_range: tuple[float, float]) -> float:
    """Mean score of all depth maps."""
    return float(np.concatenate([non_flatness(depth, *depth_range) for depth in nfs_depth]).mean())


METRIC = Metric(
    measure,
    Value(
        "nfs",
        "Non-flatness score",
        "Effective number of the 64 depth levels that a frontal view fills, by the published protocol: 1 for a flat "
        "plane, at most 64. It shows collapsed geometry; noise scores high, too.",
        better="higher",
        column=30,
    ),
    controls=(UNTRAINED,),
)

"""Minimum matching distance and coverage of true depth maps by rendered ones.

Sets of shapes are compared like this by Achlioptas et al. 2018 (arXiv 1707.02392, sec. 2). The distance here is the
aligned error of depth maps, so that neither scale nor shift of a map matters.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from threedgp.data.prepare import resize_depth
from threedgp.metrics._declaration import OTHER_HALF, UNTRAINED, Batches, Metric, Value
from threedgp.metrics.depth_consistency import unit_maps

RESOLUTION = 32
"""Maps are compared at this size: enough for the shape of an object, and small enough to compare all with all."""
MAX_MAPS = 2048
"""Maps of a set that are compared."""


def small_maps(depth: Batches, count: int) -> np.ndarray:
    """The first `count` maps at a resolution r of at most 32, float32 `[count, r, r]`."""
    maps = depth.head(count)[:, 0].astype(np.float32)
    if maps.shape[-1] <= RESOLUTION:
        return maps
    return np.stack([resize_depth(depth_map, RESOLUTION) for depth_map in maps])


def match_shapes(generated: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Match all generated maps with all true ones. Both values depend on the sizes of the sets.

    Args:
        generated, true: `[N, r, r]` and `[M, r, r]`.

    Returns:
        distance: mean over true maps of the aligned error to the nearest generated map, 0 = every shape is there
            exactly, 1 = no better than flat planes.
        coverage: fraction of true maps that are the nearest one of some generated map; a collapsed generator covers
            few.
    """
    correlation = unit_maps(generated).astype(np.float32) @ unit_maps(true).astype(np.float32).T
    best = correlation.max(axis=0).astype(np.float64).clip(0, 1)
    nearest = correlation.argmax(axis=1)[correlation.max(axis=1) > 0]  # a flat map matches none
    return float(np.sqrt(1 - best**2).mean()), len(np.unique(nearest)) / len(true)


def measure(depth: Mapping[str, Batches], real_depth: Batches) -> dict[str, tuple[float, float]]:
    """Both values for every set, from equally many maps of each."""
    count = min(MAX_MAPS, len(real_depth), *map(len, depth.values()))
    true = small_maps(real_depth, count)
    return {name: match_shapes(small_maps(maps, count), true) for name, maps in depth.items()}


METRIC = Metric(
    measure,
    Value(
        "shape_distance",
        "Distance from true shapes to generated ones",
        "From each true depth map to the nearest generated one, in any scale and shift: 0 = exact, 1 = no better "
        "than flat planes.",
        column=140,
    ),
    Value(
        "shape_coverage",
        "Coverage of true shapes",
        "Fraction of true depth maps that are the nearest one of some generated map.",
        better="higher",
        column=141,
    ),
    controls=(UNTRAINED, OTHER_HALF),
    jointly=True,
)

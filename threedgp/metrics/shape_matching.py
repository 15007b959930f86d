"""Minimum matching distance and coverage of true depth maps by rendered ones.

Sets of shapes are compared like this by Achlioptas et al. 2018 (arXiv 1707.02392, sec. 2). The distance here is the
aligned error of depth maps, so that neither scale nor shift of a map matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from threedgp.data.prepare import resize_depth
from threedgp.metrics._declaration import OTHER_HALF, UNTRAINED, Batches, Metric, Value
from threedgp.metrics.depth_consistency import MIN_DEVIATION

RESOLUTION = 32
"""Maps are compared at this size: enough for the shape of an object, and small enough to compare all with all."""
MAX_MAPS = 2048
"""Maps of a set that are compared."""


class ShapeMatching(NamedTuple):
    """Both values of the metric."""

    distance: float
    """Mean over true maps of the aligned error to the nearest generated map: 0 = every shape is there exactly,
    1 = no better than flat planes."""
    coverage: float
    """Fraction of true maps that are the nearest one of some generated map; a collapsed generator covers few."""


def unit_maps(depth: Iterable[np.ndarray], count: int) -> np.ndarray:
    """The first `count` maps of `[n, 1, R, R]` batches, resized, with mean 0 and norm 1: float32 `[count, D]`.

    Flat maps become 0. The product of two rows is Pearson's correlation.
    """
    maps, found = [], 0
    for batch in depth:
        batch = batch[: count - found, 0].astype(np.float32)
        if batch.shape[-1] > RESOLUTION:
            batch = np.stack([resize_depth(depth_map, RESOLUTION) for depth_map in batch])
        rows = batch.reshape(len(batch), -1).astype(np.float64)
        largest = np.abs(rows).max(axis=1)
        rows -= rows.mean(axis=1, keepdims=True)
        norm = np.linalg.norm(rows, axis=1)
        has_shape = norm > MIN_DEVIATION * largest * np.sqrt(rows.shape[1])
        maps.append((rows / np.where(has_shape, norm, np.inf)[:, None]).astype(np.float32))
        found += len(batch)
        if found == count:
            break
    return np.concatenate(maps)


def match_shapes(generated: np.ndarray, true: np.ndarray) -> ShapeMatching:
    """Match all generated maps with all true ones. Both values depend on the sizes of the sets.

    Args:
        generated, true: `[N, D]` and `[M, D]` from `unit_maps`.
    """
    correlation = generated @ true.T
    best = correlation.max(axis=0).astype(np.float64).clip(0, 1)
    nearest = correlation.argmax(axis=1)[correlation.max(axis=1) > 0]  # a flat map matches none
    return ShapeMatching(float(np.sqrt(1 - best**2).mean()), len(np.unique(nearest)) / len(true))


def measure(depth: Mapping[str, Batches], real_depth: Batches) -> dict[str, ShapeMatching]:
    """Both values for every set, from equally many maps of each."""
    count = min(MAX_MAPS, len(real_depth), *map(len, depth.values()))
    true = unit_maps(real_depth, count)
    return {name: match_shapes(unit_maps(maps, count), true) for name, maps in depth.items()}


METRIC = Metric(
    values=(
        Value(
            "shape_distance",
            "Distance from true shapes to generated ones",
            "From each true depth map to the nearest generated one, in any scale and shift: 0 = exact, 1 = no better "
            "than flat planes.",
            better="lower",
            column=140,
        ),
        Value(
            "shape_coverage",
            "Coverage of true shapes",
            "Fraction of true depth maps that are the nearest one of some generated map.",
            better="higher",
            column=141,
        ),
    ),
    needs=("depth", "real_depth"),
    function=measure,
    controls=(UNTRAINED, OTHER_HALF),
    jointly=True,
)

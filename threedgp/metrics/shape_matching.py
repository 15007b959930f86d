"""Rendered depth against true depth by matching map with map: are the shapes real, and are all real shapes there?

Minimum matching distance and coverage, as Achlioptas et al. 2018 (arXiv 1707.02392, sec. 2) compare sets of shapes,
with the aligned error of depth maps as the distance, so that neither scale nor shift of a map matters.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from threedgp.data.prepare import resize_depth
from threedgp.metrics.depth_agreement import FLAT
from threedgp.metrics.streams import Stream

RESOLUTION = 32
"""Maps are compared at this size: enough for the shape of an object, and small enough to compare all with all."""


class ShapeMatching(NamedTuple):
    """Two answers."""

    distance: float
    """Mean over true maps of the aligned error to the generated map that is nearest: 0 = every shape is there, exact,
    1 = no better than flat planes."""
    coverage: float
    """Share of true maps that are the nearest of some generated one; a collapsed generator covers few."""


def unit_maps(depth: Stream, count: int) -> np.ndarray:
    """The first `count` maps of `[n, 1, R, R]` batches, small, without mean and of norm 1: float32 `[count, D]`, 0 for
    a flat map. The product of two is Pearson's correlation."""
    maps, found = [], 0
    for batch in depth:
        some = batch[: count - found, 0].astype(np.float32)
        if some.shape[-1] > RESOLUTION:
            some = np.stack([resize_depth(one, RESOLUTION) for one in some])
        rows = some.reshape(len(some), -1).astype(np.float64)
        largest = np.abs(rows).max(axis=1)
        rows -= rows.mean(axis=1, keepdims=True)
        norm = np.linalg.norm(rows, axis=1)
        shaped = norm > FLAT * largest * np.sqrt(rows.shape[1])
        maps.append((rows / np.where(shaped, norm, np.inf)[:, None]).astype(np.float32))
        found += len(some)
        if found == count:
            break
    return np.concatenate(maps)


def match_shapes(generated: np.ndarray, true: np.ndarray) -> ShapeMatching:
    """Match all with all; sizes of the sets matter, so compare only among equal sizes.

    Args:
        generated, true: `[N, D]` and `[M, D]` of `unit_maps`.
    """
    correlation = generated @ true.T
    best = correlation.max(axis=0).astype(np.float64).clip(0, 1)
    claimed = correlation.argmax(axis=1)[correlation.max(axis=1) > 0]  # a flat map is like none
    return ShapeMatching(float(np.sqrt(1 - best**2).mean()), len(np.unique(claimed)) / len(true))

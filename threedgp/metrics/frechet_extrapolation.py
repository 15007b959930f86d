"""Frechet distance for infinitely many generated pictures (Chong and Forsyth 2020, arXiv 1911.07023)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from threedgp.features.moments import Moments
from threedgp.metrics.frechet import frechet_distance

POINTS = 15
SMALLEST_SHARE = 0.1
"""Of the pictures, in the smallest subset; the authors go from 5,000 to 50,000."""


class Extrapolation(NamedTuple):
    """The line that distances of subsets follow over 1 / pictures."""

    distance: float
    """At infinity: free of the bias of small sets."""
    bias: float
    """By how much the distance of all the pictures there are is too large."""


def extrapolated_distance(features: np.ndarray, statistics: Moments, *, seed: int = 0) -> Extrapolation:
    """The distance from `statistics`, extrapolated along the number of pictures.

    The expected distance is linear in 1 / N up to terms of higher order, with a slope that differs between generators,
    so that an order of two generators at one N may not be theirs.

    Args:
        features: of generated pictures in any order, float32 `[N, D]`.
        statistics: of the real set, which counts as known.
        seed: of the subsets, which are drawn on their own.
    """
    rng = np.random.default_rng(seed)
    counts = np.linspace(max(round(SMALLEST_SHARE * len(features)), 2), len(features), POINTS).astype(int)
    subsets = (features[rng.choice(len(features), count, replace=False)] for count in counts)
    distances = [frechet_distance(Moments.of(subset), statistics) for subset in subsets]
    slope, intercept = np.polyfit(1 / counts, distances, 1)
    return Extrapolation(float(intercept), float(slope / len(features)))

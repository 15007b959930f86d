"""Frechet distance for infinitely many generated images (Chong and Forsyth 2020, arXiv 1911.07023, sec. 4)."""

from __future__ import annotations

import numpy as np

from threedgp.features.moments import Moments
from threedgp.metrics._declaration import Metric, Value
from threedgp.metrics.frechet import frechet_distance

NUM_SUBSETS = 15
MIN_FRACTION = 0.1
"""Size of the smallest subset, as a fraction of the images; the authors go from 5,000 to 50,000."""


def extrapolated_distance(features: np.ndarray, statistics: Moments, seed: int = 0) -> tuple[float, float]:
    """Frechet distance of features `[N, D]` from `statistics`, taken as exact, extrapolated to infinitely many images.

    The expected distance is linear in 1 / N up to terms of higher order. Its slope differs between generators, so that
    two generators may change places when N grows. Subsets are drawn independently. Returns the limit for N to infinity,
    without the bias of small sets, and the excess over it of the distance of all N images.
    """
    rng = np.random.default_rng(seed)
    counts = np.linspace(max(round(MIN_FRACTION * len(features)), 2), len(features), NUM_SUBSETS).astype(int)
    subsets = (features[rng.choice(len(features), count, replace=False)] for count in counts)
    distances = [frechet_distance(Moments.of(subset), statistics) for subset in subsets]
    slope, intercept = np.polyfit(1 / counts, distances, 1)
    return float(intercept), float(slope / len(features))


METRIC = Metric(
    extrapolated_distance,
    Value(
        "fd",
        "Fréchet distance for infinitely many images on {network} features",
        "The Fréchet distance extrapolated along 1 / N, without the bias of N images.",
        published="fid",
        suffix="_infinite",
    ),
    Value(
        "fd",
        "Bias of the Fréchet distance on {network} features",
        "Excess of the Fréchet distance of N images over its limit.",
        better=None,
        published="fid",
        suffix="_bias",
    ),
    needs=("features", "real_moments", "seed"),
)

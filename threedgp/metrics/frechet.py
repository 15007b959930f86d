"""Frechet distance between two Gaussians (Heusel et al. 2017, arXiv 1706.08500, eq. 6)."""

from __future__ import annotations

import numpy as np

from threedgp.features.moments import Moments
from threedgp.metrics._declaration import BACKGROUND, BLURRED, OTHER_HALF, UNTRAINED, Metric, Value


def _square_root(symmetric: np.ndarray) -> np.ndarray:
    """Square root of a positive semi-definite matrix; eigenvalues that rounding made negative count as 0."""
    values, vectors = np.linalg.eigh(symmetric)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


def frechet_distance(first: Moments, second: Moments) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    C1 C2 and the symmetric C1^(1/2) C2 C1^(1/2) have the same eigenvalues. Those of the latter are real and can be
    computed to full accuracy, also where a covariance is singular (fewer samples than dimensions).
    """
    root = _square_root(first.covariance)
    eigenvalues = np.linalg.eigvalsh(root @ second.covariance @ root)
    cross = np.sqrt(eigenvalues.clip(min=0)).sum()
    difference = first.mean - second.mean
    distance = difference @ difference + np.trace(first.covariance) + np.trace(second.covariance) - 2 * cross
    return float(max(distance, 0.0))


def measure(moments: Moments, real_moments: Moments, distilled: bool | None) -> tuple[float, bool | None]:
    """The distance, and whether training learned from the same network."""
    return frechet_distance(moments, real_moments), distilled


METRIC = Metric(
    measure,
    Value(
        "fd",
        "Fréchet distance on {network} features",
        "Distance between Gaussian fits to features of generated images and of all real images.",
        column=10,
        published="fid",
    ),
    Value(
        "fd",
        "Whether training distills {network} features",
        "True if the discriminator learns from the same network, which favors the model.",
        better=None,
        published="fid",
        suffix="_distilled",
        controls=False,
    ),
    controls=(UNTRAINED, OTHER_HALF, BLURRED, BACKGROUND),
)

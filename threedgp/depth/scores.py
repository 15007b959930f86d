"""How well a depth map agrees with the truth, up to scale and shift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DELTA = 1.25


@dataclass(frozen=True)
class Score:
    """Agreement of one map with the truth, over the pixels whose truth is known."""

    abs_rel: float
    """Mean of |aligned - truth| / truth; 0 is perfect."""
    delta1: float
    """Share of pixels with max(aligned / truth, truth / aligned) < 1.25; 1 is perfect."""
    correlation: float
    """Pearson's, of the maps before the alignment; negative where near and far are exchanged."""
    known: float
    """Share of pixels whose truth is known."""


def align(estimate: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """``s * estimate + t`` with the s >= 0 and t of least squares, in closed form; both `[N]`.

    s = max(cov(estimate, truth), 0) / var(estimate), t = mean(truth) - s * mean(estimate). A map that is upside down
    gets s = 0: it is no better than a constant one.
    """
    estimate_mean, truth_mean = estimate.mean(), truth.mean()
    centred = estimate - estimate_mean
    variance = centred @ centred
    scale = max(centred @ (truth - truth_mean), 0.0) / variance if variance > 0 else 0.0
    return scale * centred + truth_mean


def score(estimate: NDArray[np.float32], truth: NDArray[np.float32]) -> Score | None:
    """Compare `estimate` with `truth`, both `[H, W]`, larger = farther; the truth in any unit, but from the camera.

    AbsRel and delta1 are those of Eigen et al. (arXiv 1406.2283), after `align`, as for affine-invariant estimators
    (Yin et al., CVPR 2021). Pixels whose truth is not finite or not positive are unknown, and left out; an aligned
    depth that is not positive fails delta1.

    Returns:
        None if no pixel is known.
    """
    known = np.isfinite(truth) & (truth > 0)
    if not known.any():
        return None
    found, wanted = estimate[known].astype(np.float64), truth[known].astype(np.float64)
    aligned = align(found, wanted)
    # max(a / b, b / a) < d without a division by what may be zero
    close = (aligned < DELTA * wanted) & (wanted < DELTA * aligned)
    return Score(
        abs_rel=float(np.mean(np.abs(aligned - wanted) / wanted)),
        delta1=float(close.mean()),
        correlation=_correlation(found, wanted),
        known=float(known.mean()),
    )


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Pearson's; 0 where either is constant."""
    one, other = one - one.mean(), other - other.mean()
    norm = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / norm) if norm > 0 else 0.0

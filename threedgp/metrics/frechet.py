"""Frechet distance between two Gaussians (Heusel et al. 2017, arXiv 1706.08500, eq. 6)."""

from __future__ import annotations

import numpy as np

from threedgp.features.moments import Moments


def _square_root(symmetric: np.ndarray) -> np.ndarray:
    """Root of a positive semi-definite matrix; eigenvalues that rounding made negative count as 0."""
    values, vectors = np.linalg.eigh(symmetric)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


def frechet_distance(first: Moments, second: Moments) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    C1 C2 and the symmetric C1^(1/2) C2 C1^(1/2) have the same eigenvalues, and those of the latter are real and can
    be had to full accuracy, also where a covariance is singular (fewer samples than dimensions).
    """
    root = _square_root(first.covariance)
    eigenvalues = np.linalg.eigvalsh(root @ second.covariance @ root)
    cross = np.sqrt(eigenvalues.clip(min=0)).sum()
    apart = first.mean - second.mean
    return float(max(apart @ apart + np.trace(first.covariance) + np.trace(second.covariance) - 2 * cross, 0.0))

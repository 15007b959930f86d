"""Rendered depth against the depth that an estimator finds in the same image, where scale and shift are unknown."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from threedgp.metrics._declaration import UNTRAINED, Metric, Value

MIN_DEVIATION = 1e-6
"""A map whose deviation is a smaller fraction of its largest value counts as flat."""


def unit_maps(depth: np.ndarray) -> np.ndarray:
    """Maps `[N, ...]` with mean 0 and norm 1, float64 `[N, D]`; flat maps become 0.

    The product of two rows is Pearson's correlation.
    """
    rows = np.asarray(depth, dtype=np.float64).reshape(len(depth), -1)
    largest = np.abs(rows).max(axis=1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(rows, axis=1)
    has_shape = norm > MIN_DEVIATION * largest * np.sqrt(rows.shape[1])
    return rows / np.where(has_shape, norm, np.inf)[:, None]


def aligned_error(depth: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Root mean square residual of the best fit a * depth + b, a >= 0, to the target, over the target's deviation.

    Maps are `[N, ...]` of any unit, larger = farther; the result is float64 `[N]`, NaN where the target is flat. 0 =
    the same shape; 1 = no better than a flat plane, also where near and far are exchanged. It equals sqrt(1 - max(r,
    0)^2) with Pearson's r, and is thus symmetric. Relative depth is evaluated after such an alignment since Ranftl et
    al. 2020 (arXiv 1907.01341, sec. 4).
    """
    targets = unit_maps(target)
    correlation = (unit_maps(depth) * targets).sum(axis=1).clip(0, 1)
    return np.where(targets.any(axis=1), np.sqrt(1 - correlation**2), np.nan)


def measure(axis_depth: Iterable[np.ndarray], estimated_depth: Iterable[np.ndarray]) -> float:
    """Mean error over all images in which the estimator finds depth; NaN if there are none."""
    errors = [aligned_error(depth, found) for depth, found in zip(axis_depth, estimated_depth, strict=True)]
    errors = np.concatenate(errors)
    errors = errors[~np.isnan(errors)]
    return float(errors.mean()) if len(errors) else np.nan


METRIC = Metric(
    measure,
    Value(
        "depth_consistency",
        "Rendered depth against an estimator",
        "Error between rendered depth along the optical axis and what `depth.estimator` finds in the same image, "
        "after alignment of scale and shift. Only estimators that look at pixels.",
        column=150,
    ),
    controls=(UNTRAINED,),
)

"""How well two depth maps of the same picture agree where neither scale nor shift is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from threedgp.camera.geometry import axis_cosines
from threedgp.data.prepare import resize_depth
from threedgp.data.source import RawPicture
from threedgp.depth.estimator import DepthEstimator, Rejected

FLAT = 1e-6
"""A map whose deviation is a smaller share of its largest value shows no shape."""


def aligned_error(depth: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Root mean square of what the best a * depth + b, a >= 0, leaves of the target, over the target's deviation.

    0 = the same shape; 1 = no better than a flat plane, also where near and far are exchanged. It is
    sqrt(1 - max(r, 0)^2) with Pearson's r, and so the same when the two change places. Relative depth is judged
    after such an alignment since Ranftl et al. 2020 (arXiv 1907.01341, sec. 4).

    Args:
        depth, target: `[N, ...]` of equal shape, any unit, larger = farther.

    Returns:
        float64 `[N]`; NaN where the target is flat.
    """
    maps = [np.asarray(values, dtype=np.float64).reshape(len(values), -1) for values in (depth, target)]
    largest = [np.abs(values).max(axis=1) for values in maps]
    maps = [values - values.mean(axis=1, keepdims=True) for values in maps]
    deviations = [np.sqrt(np.square(values).mean(axis=1)) for values in maps]
    flat = [deviation <= FLAT * most for deviation, most in zip(deviations, largest, strict=True)]
    scale = np.where(flat[0] | flat[1], 1.0, deviations[0] * deviations[1])
    correlation = np.where(flat[0], 0.0, (maps[0] * maps[1]).mean(axis=1) / scale)
    return np.where(flat[1], np.nan, np.sqrt(1 - correlation.clip(0, 1) ** 2))


def axis_depth(depth: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    """Distances along the rays, float32 `[N, 1, R, R]`, as distances along the optical axis of cameras `[N, 8]`: what
    estimators speak of."""
    cosines = axis_cosines(torch.from_numpy(cameras), depth.shape[-1]).numpy()
    return depth * cosines.reshape(depth.shape)


def estimated_depth(pictures: np.ndarray, estimator: DepthEstimator, *, first: int = 0) -> np.ndarray:
    """What an estimator that looks at pixels sees in pictures: float32 `[N, R, R]`, flat where it finds nothing usable.

    Args:
        pictures: uint8 `[N, 3, R, R]`.
        estimator: the others know nothing of a generated picture.
        first: number of the first picture in its set.
    """
    resolution = pictures.shape[-1]
    raw = [
        RawPicture(id=f"{first + number:08d}", label=0, rgb=np.ascontiguousarray(picture.transpose(1, 2, 0)))
        for number, picture in enumerate(pictures)
    ]
    return np.stack([_usable(found, resolution) for found in estimator.estimate(raw)])


def _usable(depth: np.ndarray | Rejected, resolution: int) -> np.ndarray:
    """The map at the pictures' resolution; a flat one where there is none."""
    if isinstance(depth, Rejected) or not depth.size or not np.isfinite(depth).all():
        return np.zeros((resolution, resolution), np.float32)
    return resize_depth(depth, resolution)


def mean_error(errors: Sequence[np.ndarray]) -> float | None:
    """Mean over all maps that could be compared; None if there are none."""
    everything = np.concatenate(errors)
    usable = everything[~np.isnan(everything)]
    return float(usable.mean()) if len(usable) else None

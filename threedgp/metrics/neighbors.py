"""Nearest training images of generated ones: does the generator copy its training set?

A generated image is *authentic* if it is farther from the nearest training image than that one is from its own nearest
neighbor in the training set (Alaa et al. 2022, arXiv 2102.08921, sec. 3). Copies have authenticity 0. The control is
the score of real images, each compared with the training set without itself. Mirrored copies are not searched for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch

from threedgp.metrics._declaration import MODEL, Batches, Measured, Metric, Value

BLOCK = 4096
"""Training images whose distances are held in memory at once."""
NUM_SPARE = 8
"""Additional candidates: they are selected in float32, by products that cancel, and then ranked exactly."""
MAX_QUERIES = 2048
"""Images whose nearest training images are searched for."""
NUM_SHOWN, NUM_NEIGHBORS_SHOWN = 8, 5
"""Images closest to the training set, and farthest from it, that are shown, and training images beside each."""


class Neighbors(NamedTuple):
    """The nearest rows, nearest first."""

    rows: np.ndarray
    """Row numbers, int64 `[N, k]`."""
    distances: np.ndarray
    """Euclidean, float64 `[N, k]`."""


def nearest(queries: np.ndarray, training: np.ndarray, k: int, *, device: torch.device | str = "cpu") -> Neighbors:
    """The `k` nearest rows of the training set `[M, D]`, M >= k, of each row of `queries` `[N, D]`; of equally near
    rows the first."""
    points = torch.from_numpy(queries).to(device)
    center = points.mean(dim=0)
    num_candidates = k + NUM_SPARE
    distances, rows = np.empty((len(queries), 0)), np.empty((len(queries), 0), np.int64)
    for start in range(0, len(training), BLOCK):
        block = training[start : start + BLOCK]
        approximate = torch.cdist(points - center, torch.tensor(block, device=device) - center)
        near = approximate.topk(min(num_candidates, len(block)), largest=False).indices.cpu().numpy()
        exact = [
            np.linalg.norm(block[candidates].astype(np.float64) - query, axis=1)
            for query, candidates in zip(queries, near, strict=True)
        ]
        distances = np.concatenate([distances, np.stack(exact)], axis=1)
        rows = np.concatenate([rows, start + near], axis=1)
        order = np.lexsort((rows, distances))[:, :num_candidates]
        distances, rows = np.take_along_axis(distances, order, 1), np.take_along_axis(rows, order, 1)
    return Neighbors(rows[:, :k], distances[:, :k])


class Authenticity(NamedTuple):
    """Relation of images to single training images."""

    authentic: np.ndarray
    """bool `[N]`: farther from the nearest training image than that one is from its own nearest neighbor."""
    closeness: np.ndarray
    """`[N]`: the first of those distances over the second; 0 for a copy, above 1 for authentic images."""
    nearest: Neighbors
    """Nearest training images."""


def authenticity(
    queries: np.ndarray,
    training: np.ndarray,
    k: int = 1,
    *,
    own: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> Authenticity:
    """Compare images with the training set, by features `[N, D]` and `[M, D]`, M >= k + 2, of the same network; the
    result has `k` neighbors of each image.

    `own` `[N]` is the row of each image in the training set itself. It is left out, so that the image is compared as if
    it were new.
    """
    own = np.full(len(queries), -1) if own is None else own
    found = _without(nearest(queries, training, k + 1, device=device), own[:, None], k)
    owners, place = np.unique(found.rows[:, 0], return_inverse=True)
    neighbors = nearest(training[owners], training, 3, device=device)
    neighbors = Neighbors(neighbors.rows[place], neighbors.distances[place])
    radius = _without(neighbors, np.stack([owners[place], own], axis=1), 1).distances[:, 0]
    distance = found.distances[:, 0]
    closeness = np.divide(distance, radius, out=np.where(distance > 0, np.inf, 0.0), where=radius > 0)
    return Authenticity(distance > radius, closeness, found)


def _without(found: Neighbors, excluded: np.ndarray, k: int) -> Neighbors:
    """The first `k` neighbors of each image whose rows are not in `excluded` `[N, m]`."""
    is_excluded = (found.rows[:, :, None] == excluded[:, None]).any(axis=2)
    order = np.argsort(is_excluded, axis=1, kind="stable")[:, :k]
    return Neighbors(np.take_along_axis(found.rows, order, 1), np.take_along_axis(found.distances, order, 1))


def measure(
    features: Mapping[str, np.ndarray],
    images: Mapping[str, Batches],
    training_features: np.ndarray,
    training_images: Callable[[np.ndarray], np.ndarray],
    seed: int,
    device: torch.device | str,
) -> Measured:
    """Authenticity and smallest closeness of generated and of training images. neighbors.png shows the generated images
    that are closest to a training image, atypical.png those that are farthest from all of them."""
    num_training = len(training_features)
    k = min(NUM_NEIGHBORS_SHOWN, num_training - 3)
    if k < 1:
        return Measured({}, {})
    queries = features[MODEL][:MAX_QUERIES]
    found = authenticity(queries, training_features, k, device=device)
    own = np.sort(np.random.default_rng(seed).permutation(num_training)[:MAX_QUERIES])
    real = authenticity(training_features[own], training_features, own=own, device=device)
    numbers = {
        name: (float(one.authentic.mean()), float(one.closeness.min()))
        for name, one in ((MODEL, found), ("real", real))
    }
    generated = images[MODEL].head(len(queries))

    def sheet(score: np.ndarray) -> np.ndarray:
        """The images with the lowest scores `[N]`, each beside its nearest training images."""
        chosen = np.argsort(score, kind="stable")[:NUM_SHOWN]
        shown = np.concatenate([generated[chosen][:, None], training_images(found.nearest.rows[chosen])], axis=1)
        return np.concatenate(np.concatenate(shown.transpose(1, 0, 2, 3, 4), axis=-1), axis=-2).transpose(1, 2, 0)

    files = {"neighbors.png": sheet(found.closeness), "atypical.png": sheet(-found.nearest.distances[:, 0])}
    return Measured(numbers, files)


METRIC = Metric(
    measure,
    Value(
        "authenticity",
        "Authenticity on {network} features",
        "Fraction of images that are farther from the nearest training image than that one is from its own "
        "nearest neighbor: copies have 0, real images show what is usual.",
        better="higher",
        column=120,
        published="authenticity",
    ),
    Value(
        "closest_copy",
        "Closeness of the closest copy",
        "Smallest ratio of those two distances: 0 for a copy.",
        better=None,
    ),
    jointly=True,
)

"""Nearest training pictures of generated ones: does the generator repeat what it was shown?

A generated picture is *authentic* if it is farther from the nearest training picture than that one is from its own
nearest fellow (Alaa et al. 2022, arXiv 2102.08921). Copies have authenticity 0. The control is what real pictures
score, each compared with the training set without itself. Mirrored copies are not looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch

BLOCK = 4096
"""Training pictures whose distances are in memory at once."""
SPARE = 8
"""Candidates beyond those asked for: the first sifting is in float32, by products that cancel."""

Rows = Callable[[], Iterable[np.ndarray]]
"""Features of the training set, batches `[n, D]`, anew every time; row numbers count through them."""


class Neighbors(NamedTuple):
    """The nearest of a set, nearest first."""

    rows: np.ndarray
    """Row numbers, int64 `[N, k]`."""
    distances: np.ndarray
    """Euclidean, float64 `[N, k]`."""


def nearest(queries: np.ndarray, training: Rows, k: int, *, device: torch.device | str = "cpu") -> Neighbors:
    """The `k` nearest rows of the training set, which is read in blocks; of equally near ones the first.

    Args:
        queries: float32 `[N, D]`.
        training: at least `k` rows.
        device: where distances are computed.
    """
    points = torch.from_numpy(queries).to(device)
    centre = points.mean(dim=0)
    wanted = k + SPARE
    found = np.empty((len(queries), 0)), np.empty((len(queries), 0), np.int64)
    first = 0
    for batch in training():
        for start in range(0, len(batch), BLOCK):
            block = batch[start : start + BLOCK]
            apart = torch.cdist(points - centre, torch.tensor(block, device=device) - centre)
            near = apart.topk(min(wanted, len(block)), largest=False).indices.cpu().numpy()
            exact = np.stack(
                [
                    np.linalg.norm(block[rows].astype(np.float64) - query, axis=1)
                    for query, rows in zip(queries, near, strict=True)
                ]
            )
            distances = np.concatenate([found[0], exact], axis=1)
            rows = np.concatenate([found[1], first + near], axis=1)
            order = np.lexsort((rows, distances))[:, :wanted]
            found = np.take_along_axis(distances, order, 1), np.take_along_axis(rows, order, 1)
            first += len(block)
    return Neighbors(found[1][:, :k], found[0][:, :k])


class Memory(NamedTuple):
    """What generated pictures owe to single training pictures."""

    authentic: np.ndarray
    """bool `[N]`: farther from the nearest training picture than that is from its own nearest."""
    closeness: np.ndarray
    """`[N]`: the first of those distances over the second; a copy has 0, above 1 is authentic."""
    nearest: Neighbors
    """Of the pictures."""


def memory(
    queries: np.ndarray,
    training: Rows,
    k: int = 1,
    *,
    own: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> Memory:
    """Compare pictures with the training set, which is read twice and has at least k + 2 rows.

    Args:
        queries: features of the pictures, float32 `[N, D]`.
        training: features of the same network.
        k: neighbors of each picture to return.
        own: `[N]`, the row that each picture has in the training set itself, which then counts as not there: what
            fresh real pictures would score.
        device: where distances are computed.
    """
    nobody = np.full(len(queries), -1)
    own = nobody if own is None else own
    found = _without(nearest(queries, training, k + 1, device=device), own[:, None], k)
    owners, place = np.unique(found.rows[:, 0], return_inverse=True)
    fellows = nearest(_take(training, owners), training, 3, device=device)
    fellows = Neighbors(fellows.rows[place], fellows.distances[place])
    radius = _without(fellows, np.stack([owners[place], own], axis=1), 1).distances[:, 0]
    apart = found.distances[:, 0]
    closeness = np.divide(apart, radius, out=np.where(apart > 0, np.inf, 0.0), where=radius > 0)
    return Memory(apart > radius, closeness, found)


def _without(found: Neighbors, left_out: np.ndarray, k: int) -> Neighbors:
    """The first `k` neighbors of each picture that are not among its row numbers `left_out` `[N, m]`."""
    wrong = (found.rows[:, :, None] == left_out[:, None]).any(axis=2)
    order = np.argsort(wrong, axis=1, kind="stable")[:, :k]
    return Neighbors(np.take_along_axis(found.rows, order, 1), np.take_along_axis(found.distances, order, 1))


def _take(training: Rows, rows: np.ndarray) -> np.ndarray:
    """Some ascending rows."""
    taken, first = [], 0
    for batch in training():
        inside = rows[(rows >= first) & (rows < first + len(batch))] - first
        taken.append(batch[inside])
        first += len(batch)
    return np.concatenate(taken)

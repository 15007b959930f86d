"""What a generator covers of each class on its own: a set of good averages can hide classes that look all alike.

Recall of Kynkaanniemi et al. (arXiv 1904.06991) inside a class, and the spread of a class relative to that of the real
one: the measure of Odena et al. (arXiv 1610.09585, sec. 4.2), with distances of features where they have MS-SSIM. Both
are averages over classes, the "within-class" kind of Benny et al. (arXiv 2004.12361).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from threedgp.metrics.precision_recall import NEIGHBOURHOOD, precision_recall

LEAST = 2 * (NEIGHBOURHOOD + 1)
"""Pictures, generated and real, without which a class is not judged."""
MOST = 1000
"""Pictures of a class that are compared."""


class ClassScore(NamedTuple):
    """One class."""

    label: int
    pictures: int
    """Compared, of each kind: sets of equal size, because both scores depend on it."""
    recall: float
    """Share of its real pictures that lie inside a ball of a generated one of the class."""
    diversity: float
    """Mean distance of two generated pictures over that of two real ones: 0 = all alike, 1 = as varied as real."""


def mean_distance(features: np.ndarray, device: torch.device | str = "cpu") -> float:
    """Mean Euclidean distance between two different rows of `[N, D]`."""
    rows = torch.from_numpy(features).to(device, torch.float64)
    rows = rows - rows.mean(dim=0)  # smaller numbers cancel less
    count = len(rows)
    return float(torch.cdist(rows, rows).fill_diagonal_(0).sum() / (count * (count - 1)))


def class_scores(
    fakes: np.ndarray,
    fake_labels: np.ndarray,
    reals: np.ndarray,
    real_labels: np.ndarray,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> list[ClassScore]:
    """Scores of every class of which both sets have enough pictures, by label.

    Args:
        fakes, reals: features float32 `[N, D]` and `[M, D]`.
        fake_labels, real_labels: int `[N]` and `[M]`.
        seed: of the choice where a class has more pictures than are compared.
        device: where distances are computed.
    """
    result = []
    for label in np.intersect1d(fake_labels, real_labels):
        rows = [np.flatnonzero(labels == label) for labels in (fake_labels, real_labels)]
        count = min(MOST, *map(len, rows))
        if count < LEAST:
            continue
        rng = np.random.default_rng([seed, int(label)])
        made, real = (
            features[np.sort(rng.permutation(mine)[:count])]
            for features, mine in zip((fakes, reals), rows, strict=True)
        )
        if (spread := mean_distance(real, device)) == 0:  # copies of one picture have no variety to compare with
            continue
        recall = precision_recall(made, real, device=device).recall
        result.append(ClassScore(int(label), count, recall, mean_distance(made, device) / spread))
    return result


def averages(scores: Sequence[ClassScore]) -> dict[str, float]:
    """Means over classes: `class_recall` and `class_diversity`; empty without a class that could be judged."""
    if not scores:
        return {}
    return {
        "class_recall": float(np.mean([score.recall for score in scores])),
        "class_diversity": float(np.mean([score.diversity for score in scores])),
    }

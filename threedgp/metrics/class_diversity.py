"""Recall and diversity inside each class: good averages over all classes can hide classes whose images are all alike.

Recall is that of Kynkaanniemi et al. 2019 (arXiv 1904.06991, eq. 2) inside a class. Diversity is the measure of Odena
et al. 2017 (arXiv 1610.09585, sec. 4.2) with distances of features in the place of MS-SSIM. Both are averaged over
classes, as the within-class metrics of Benny et al. 2020 (arXiv 2004.12361, sec. 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from threedgp.metrics._declaration import OTHER_HALF, UNTRAINED, Measured, Metric, Value
from threedgp.metrics.precision_recall import NEIGHBORHOOD, precision_recall

MIN_IMAGES = 2 * (NEIGHBORHOOD + 1)
"""Generated images, and real ones, that a class needs to be measured."""
MAX_IMAGES = 1000
"""Images of a class that are compared."""


class ClassScore(NamedTuple):
    """Scores of one class."""

    label: int
    count: int
    """Compared images of either set: sets of equal size, because both scores depend on it."""
    recall: float
    """Fraction of its real images inside a ball of a generated image of the class."""
    diversity: float
    """Mean distance between two generated images over that between two real ones: 0 = all alike, 1 = as diverse."""


def mean_distance(features: np.ndarray, device: torch.device | str = "cpu") -> float:
    """Mean Euclidean distance between two different rows of `[N, D]`."""
    rows = torch.from_numpy(features).to(device, torch.float64)
    rows = rows - rows.mean(dim=0)  # less cancellation
    count = len(rows)
    return float(torch.cdist(rows, rows).fill_diagonal_(0).sum() / (count * (count - 1)))


def pooled_diversity(
    fakes: np.ndarray, fake_labels: np.ndarray | None, reals: np.ndarray, real_labels: np.ndarray
) -> tuple[float, float]:
    """Diversity of sets too small for `class_scores`, of all classes together and of the least diverse class.

    The first is the sum of the mean distances of generated images, over all classes of which both sets have two
    images, divided by that of real ones. The second is of a class with `MIN_IMAGES` in both sets. Either is NaN without
    such a class, or if its real images are copies of one.

    Features are float32 `[N, D]` and `[M, D]`, labels int `[N]` and `[M]`; `fake_labels` None = there are no classes.
    """
    if fake_labels is None:
        real = mean_distance(reals)
        return mean_distance(fakes) / real if real else np.nan, np.nan
    sums, lowest = np.zeros(2), np.nan
    for label in np.intersect1d(fake_labels, real_labels):
        sets = fakes[fake_labels == label], reals[real_labels == label]
        count = min(map(len, sets))
        if count < 2:
            continue
        fake, real = map(mean_distance, sets)
        sums += fake, real
        if count >= MIN_IMAGES and real:
            lowest = np.fmin(lowest, fake / real)
    return float(sums[0] / sums[1]) if sums[1] else np.nan, float(lowest)


def class_scores(
    fakes: np.ndarray,
    fake_labels: np.ndarray,
    reals: np.ndarray,
    real_labels: np.ndarray,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> list[ClassScore]:
    """Scores of every class of which both sets have enough images, by label.

    Features are float32 `[N, D]` and `[M, D]`, labels int `[N]` and `[M]`; `seed` is that of the random choice of
    images where a class has more than `MAX_IMAGES`.
    """
    result = []
    for label in np.intersect1d(fake_labels, real_labels):
        rows = [np.flatnonzero(labels == label) for labels in (fake_labels, real_labels)]
        count = min(MAX_IMAGES, *map(len, rows))
        if count < MIN_IMAGES:
            continue
        rng = np.random.default_rng([seed, int(label)])
        fake, real = (
            features[np.sort(rng.permutation(indices)[:count])]
            for features, indices in zip((fakes, reals), rows, strict=True)
        )
        real_distance = mean_distance(real, device)
        if real_distance == 0:  # copies of one image
            continue
        recall = precision_recall(fake, real, device)[1]
        result.append(ClassScore(int(label), count, recall, mean_distance(fake, device) / real_distance))
    return result


def measure(
    neighbor_features: np.ndarray,
    labels: np.ndarray,
    real_neighbor_features: np.ndarray,
    real_labels: np.ndarray,
    class_names: Sequence[str],
    seed: int,
    device: torch.device | str,
) -> Measured:
    """Means over classes, and a table of all classes, the least diverse first; NaN if no class has enough images."""
    scores = class_scores(neighbor_features, labels, real_neighbor_features, real_labels, seed=seed, device=device)
    if not scores:
        return Measured((np.nan, np.nan), {})
    table = [["class", "images", "recall", "diversity"]]
    for score in sorted(scores, key=lambda score: score.diversity):
        table.append([class_names[score.label], score.count, f"{score.recall:.6g}", f"{score.diversity:.6g}"])
    means = tuple(float(np.mean([getattr(score, name) for score in scores])) for name in ("recall", "diversity"))
    return Measured(means, {"classes.tsv": table})


METRIC = Metric(
    measure,
    Value(
        "class_recall",
        "Recall within a class on {network} features",
        "Recall inside each class, averaged over classes.",
        better="higher",
        column=110,
        published="class_recall",
    ),
    Value(
        "class_diversity",
        "Diversity within a class on {network} features",
        "Mean distance between two generated images of a class over that between two real ones, averaged over "
        "classes: 0 = all alike, 1 = as diverse as real images.",
        better="higher",
        column=111,
        published="class_diversity",
    ),
    controls=(UNTRAINED, OTHER_HALF),
)

"""All metrics that compare features, and what they are called: a number on other features never borrows a name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch

from threedgp.evaluation.set_features import SetFeatures
from threedgp.features.moments import Moments
from threedgp.metrics.class_diversity import ClassScore, averages, class_scores
from threedgp.metrics.frechet import frechet_distance
from threedgp.metrics.frechet_extrapolation import extrapolated_distance
from threedgp.metrics.inception_score import inception_score
from threedgp.metrics.kernel_distance import kernel_distance
from threedgp.metrics.precision_recall import precision_recall

PUBLISHED = {
    "fd": ("inception", "fid"),
    "kd": ("inception", "kid"),
    "class_score": ("inception", "inception_score"),
    "authenticity": ("inception", "authenticity"),
    "precision": ("vgg16", "precision"),
    "recall": ("vgg16", "recall"),
    "class_recall": ("vgg16", "class_recall"),
    "class_diversity": ("vgg16", "class_diversity"),
}
"""The network on which a metric has its plain name, and that name."""


def metric_name(metric: str, network: str) -> str:
    """``fid`` on Inception features, and for example ``fd_efficientnet_lite0`` on others."""
    published, name = PUBLISHED[metric]
    return name if network == published else f"{metric}_{network}"


@dataclass(frozen=True)
class FeatureReference:
    """Real pictures, as two networks see them."""

    network: str
    """For Frechet and kernel distance and the score."""
    statistics: Moments
    """Of all of them."""
    sample: np.ndarray
    """`[M, D]`, features of M of them, drawn at random."""
    neighborhood_network: str
    """For precision, recall and what goes by classes."""
    neighborhood: np.ndarray
    """`[M, D']` of the same pictures."""
    labels: np.ndarray
    """`[M]` of the same pictures."""


@dataclass(frozen=True)
class FeatureSet:
    """A set that is judged: features of both networks, and labels if it has any."""

    main: SetFeatures
    neighborhood: SetFeatures
    labels: np.ndarray | None


def frechet(some: FeatureSet, reference: FeatureReference, *, extrapolate: bool, seed: int) -> dict[str, float]:
    """Distance from all real pictures; `extrapolate` adds `_infinite`, free of the bias of N pictures, and `_bias`."""
    name = metric_name("fd", reference.network)
    values = {name: frechet_distance(some.main.moments(), reference.statistics)}
    if extrapolate:
        line = extrapolated_distance(some.main.column("pooled"), reference.statistics, seed=seed)
        values |= {f"{name}_infinite": line.distance, f"{name}_bias": line.bias}
    return values


def pairwise(
    wanted: Collection[str], some: FeatureSet, reference: FeatureReference, *, seed: int, device: torch.device | str
) -> tuple[dict[str, float], list[ClassScore]]:
    """The metrics that look at pictures one by one, and how each class does.

    Args:
        wanted: of `kernel`, `inception_score`, `precision_recall` and `class_diversity`; others are passed over.
        some, reference: the set and the real pictures.
        seed: of the choice in large classes.
        device: where distances are computed.
    """
    result: dict[str, float] = {}
    if "kernel" in wanted:
        name = metric_name("kd", reference.network)
        result[name], result[f"{name}_std"] = kernel_distance(some.main.column("pooled"), reference.sample)
    if "inception_score" in wanted:
        name = metric_name("class_score", reference.network)
        result[name], result[f"{name}_std"] = inception_score(some.main.column("logits"))
    network, scores = reference.neighborhood_network, []
    if "precision_recall" in wanted:
        both = precision_recall(some.neighborhood.column("pooled"), reference.neighborhood, device=device)
        result |= {metric_name(name, network): value for name, value in both._asdict().items()}
    if "class_diversity" in wanted and some.labels is not None:
        mine = some.neighborhood.column("pooled"), some.labels
        scores = class_scores(*mine, reference.neighborhood, reference.labels, seed=seed, device=device)
        result |= {metric_name(name, network): value for name, value in averages(scores).items()}
    return result, scores

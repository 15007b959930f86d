"""Names of numbers, and that each is what its own module says of the same features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from threedgp.evaluation.feature_metrics import FeatureReference, FeatureSet, frechet, metric_name, pairwise
from threedgp.evaluation.set_features import extract_features
from threedgp.features.moments import Moments
from threedgp.metrics.class_diversity import averages, class_scores
from threedgp.metrics.frechet import frechet_distance
from threedgp.metrics.frechet_extrapolation import extrapolated_distance
from threedgp.metrics.inception_score import inception_score
from threedgp.metrics.kernel_distance import kernel_distance
from threedgp.metrics.precision_recall import precision_recall
from threedgp.metrics.streams import Stream


def test_only_the_published_network_has_the_published_name():
    assert metric_name("fd", "inception") == "fid"
    assert metric_name("kd", "inception") == "kid"
    assert metric_name("class_score", "inception") == "inception_score"
    assert metric_name("precision", "vgg16") == "precision"
    assert metric_name("fd", "efficientnet_lite0") == "fd_efficientnet_lite0"
    assert metric_name("recall", "inception") == "recall_inception"


@pytest.fixture
def numbers(tmp_path):
    """A set of 40 and a reference of 30, with features of two networks."""
    from metrics.networks import Corners, Means

    pictures = np.random.default_rng(0).integers(0, 256, (70, 3, 16, 16), dtype=np.uint8)
    seen = {}
    for name, rows in (("fakes", slice(40)), ("reals", slice(40, 70))):
        stream = Stream(len(pictures[rows]), [lambda rows=rows: pictures[rows]])
        seen[name] = [
            extract_features(stream, network, batch_size=8, folder=tmp_path / name / network.name, label="test")
            for network in (Means(), Corners())
        ]
    labels = np.arange(70) % 2
    main, corners = seen["reals"]
    reference = FeatureReference(
        "means", main.moments(), main.column("pooled"), "vgg16", corners.column("pooled"), labels[40:]
    )
    return FeatureSet(*seen["fakes"], labels[:40]), reference


def test_all_numbers(numbers):
    some, reference = numbers
    found, scores = pairwise(
        ["kernel", "inception_score", "precision_recall", "class_diversity", "swd"],
        some,
        reference,
        seed=3,
        device=torch.device("cpu"),
    )
    pooled, corners = some.main.column("pooled"), some.neighborhood.column("pooled")
    both = precision_recall(corners, reference.neighborhood)
    classes = class_scores(corners, some.labels, reference.neighborhood, reference.labels, seed=3)
    kernel, score = kernel_distance(pooled, reference.sample), inception_score(some.main.column("logits"))
    assert found == {
        "kd_means": kernel.mean,
        "kd_means_std": kernel.std,
        "class_score_means": score.mean,
        "class_score_means_std": score.std,
        "precision": both.precision,
        "recall": both.recall,
        **averages(classes),
    }
    assert scores == classes
    assert pairwise(["frechet"], some, reference, seed=0, device="cpu") == ({}, [])


def test_frechet_with_and_without_extrapolation(numbers):
    some, reference = numbers
    pooled = some.main.column("pooled")
    plain = frechet(some, reference, extrapolate=False, seed=0)
    assert plain == {"fd_means": pytest.approx(frechet_distance(Moments.of(pooled), reference.statistics))}
    line = extrapolated_distance(pooled, reference.statistics, seed=0)
    more = frechet(some, reference, extrapolate=True, seed=0)
    assert more == plain | {"fd_means_infinite": line.distance, "fd_means_bias": line.bias}

"""Recall and diversity of classes where they are known, and against sums written out."""

from __future__ import annotations

import numpy as np
import pytest

from threedgp.metrics import class_diversity
from threedgp.metrics.class_diversity import class_scores, mean_distance, measure, pooled_diversity
from threedgp.metrics.precision_recall import precision_recall

LABELS = np.repeat([0, 1, 2], 30)


def features(seed: int, count: int = 90) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 5)).astype(np.float32)


CENTERS = 50 * LABELS[:, None].astype(np.float32)
REALS = features(0) + CENTERS


def test_mean_distance_is_the_mean_over_pairs():
    some = features(1, 12).astype(float)
    pairs = [np.linalg.norm(a - b) for i, a in enumerate(some) for b in some[i + 1 :]]
    assert mean_distance(some.astype(np.float32)) == pytest.approx(np.mean(pairs), rel=1e-5)
    assert mean_distance((some + 1e4).astype(np.float32)) == pytest.approx(np.mean(pairs), rel=1e-3)


def test_the_real_set_itself():
    scores = class_scores(REALS, LABELS, REALS, LABELS)
    assert [(score.label, score.count) for score in scores] == [(0, 30), (1, 30), (2, 30)]
    for score in scores:
        assert score.recall == 1
        assert score.diversity == pytest.approx(1)


def test_half_as_spread():
    scores = class_scores(CENTERS + 0.5 * features(0), LABELS, REALS, LABELS)
    assert [score.diversity for score in scores] == pytest.approx([0.5] * 3, rel=1e-5)
    found = measure(CENTERS + 0.5 * features(0), LABELS, REALS, LABELS, ["cat", "dog", "cow"], 0, "cpu")
    assert found.numbers == pytest.approx((np.mean([score.recall for score in scores]), 0.5), rel=1e-5)


def test_pooled_diversity_of_few_images():
    labels, real_labels = np.array([0, 1, 1, 2, 2, 2, 3, 3]), np.array([1, 1, 2, 2, 3, 0, 0])
    fakes, reals = features(1, 8), features(2, 7)

    def distance(some):
        return np.mean([np.linalg.norm(a - b) for i, a in enumerate(some) for b in some[i + 1 :]])

    # Classes 1 and 2 have two images in both sets.
    fake, real = (distance(fakes[1:3]) + distance(fakes[3:6]), distance(reals[:2]) + distance(reals[2:4]))
    pooled, lowest = pooled_diversity(fakes, labels, reals, real_labels)
    assert pooled == pytest.approx(fake / real, rel=1e-5)
    assert np.isnan(lowest), "two images do not show whether a class has collapsed"
    whole = distance(fakes) / distance(reals)
    expected = pytest.approx((whole, np.nan), rel=1e-5, nan_ok=True)
    assert pooled_diversity(fakes, None, reals, real_labels) == expected
    assert np.isnan(pooled_diversity(fakes, labels, reals, np.arange(7))).all()
    assert np.isnan(pooled_diversity(fakes, None, reals * 0, real_labels)).all()


def test_least_diverse_class():
    spread = np.where(LABELS == 1, 0.2, 0.8)[:, None].astype(np.float32)
    pooled, lowest = pooled_diversity(CENTERS + spread * features(0), LABELS, REALS, LABELS)
    assert lowest == pytest.approx(0.2, rel=1e-5)
    assert pooled == pytest.approx(0.6, abs=0.03), "three classes of nearly equal distances"
    copies = np.where(LABELS == 1, 0, 1)[:, None].astype(np.float32) * features(0)
    _, lowest = pooled_diversity(features(0), LABELS, copies, LABELS)
    assert lowest == pytest.approx(1), "a class of copies says nothing"


def test_table_shows_the_least_diverse_class_first():
    fakes = REALS.copy()
    fakes[LABELS == 1] = CENTERS[LABELS == 1] + 0.25 * features(0)[LABELS == 1]
    table = measure(fakes, LABELS, REALS, LABELS, ["cat", "dog", "cow"], 0, "cpu").files["classes.tsv"]
    assert table[0] == ["class", "images", "recall", "diversity"]
    assert [row[0] for row in table[1:]] == ["dog", "cat", "cow"]
    assert table[1][1] == 30 and float(table[1][3]) == pytest.approx(0.25, rel=1e-5)


def test_collapsed_class_lowers_its_own_scores_only():
    fakes = features(2) + CENTERS
    fakes[LABELS == 1] = REALS[30]
    scores = class_scores(fakes, LABELS, REALS, LABELS)
    assert scores[1].diversity == 0
    assert scores[1].recall < 1.5 / 30  # the image that all are copies of
    for score in (scores[0], scores[2]):
        assert score.recall > 0.5
        assert score.diversity == pytest.approx(1, abs=0.2)  # 30 images
    mine = LABELS == 0
    assert scores[0].recall == precision_recall(fakes[mine], REALS[mine])[1]


def test_order_of_images_does_not_change_the_result():
    order = np.random.default_rng(3).permutation(90)
    fakes = features(4) + CENTERS
    first, second = (
        class_scores(some, labels, REALS, LABELS) for some, labels in ((fakes, LABELS), (fakes[order], LABELS[order]))
    )
    for one, other in zip(first, second, strict=True):
        assert one == pytest.approx(other, rel=1e-6)


def test_classes_with_too_few_images_are_left_out(monkeypatch):
    few = np.where(np.arange(90) < 5, 7, LABELS)
    assert 7 not in [score.label for score in class_scores(REALS, few, REALS, few)]
    same = REALS.copy()
    same[LABELS == 2] = 1
    assert [score.label for score in class_scores(REALS, LABELS, same, LABELS)] == [0, 1]
    assert np.isnan(measure(REALS[:1], LABELS[:1], REALS, LABELS, [], 0, "cpu").numbers).all()
    monkeypatch.setattr(class_diversity, "MAX_IMAGES", 10)
    assert {score.count for score in class_scores(REALS, LABELS, REALS, LABELS)} == {10}

"""Kernel distance against its definition written out, and against torch-fidelity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_fidelity.defaults import DEFAULTS
from torch_fidelity.metric_kid import kid_features_to_metric

from threedgp.metrics.kernel import NUM_SUBSETS, SUBSET_SIZE, kernel_distance


def features(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(count, 12)) + shift).astype(np.float32)


def test_definition():
    """One subset of everything: the unbiased estimate as sums over pairs, in float64."""
    x, y = features(30, 0).astype(float), features(30, 1, 0.5).astype(float)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (a @ b / 12 + 1) ** 3

    within = [np.mean([kernel(a[i], a[j]) for i in range(30) for j in range(30) if i != j]) for a in (x, y)]
    between = np.mean([kernel(a, b) for a in x for b in y])
    found = kernel_distance(x.astype(np.float32), y.astype(np.float32), subsets=1, subset_size=30)
    assert found[0] == pytest.approx(sum(within) - 2 * between, rel=1e-4)  # float32
    assert found[1] == 0


def test_torch_fidelity_gives_the_same():
    """With its own settings, but for the number of subsets."""
    assert NUM_SUBSETS == DEFAULTS["kid_subsets"]
    assert SUBSET_SIZE == DEFAULTS["kid_subset_size"]
    x, y = features(2000, 0), features(2100, 1, 0.2)
    theirs = kid_features_to_metric(torch.from_numpy(x), torch.from_numpy(y), kid_subsets=3, verbose=False)
    found = kernel_distance(x, y, subsets=3)
    assert found[0] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-5)
    assert found[1] == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-5)


def test_order_of_images_does_not_change_the_result():
    """Exact for one subset of everything; between random subsets within what they scatter."""
    x, y = features(40, 0), features(40, 1, 0.5)
    whole = kernel_distance(x, y, subsets=1, subset_size=40)[0]
    assert kernel_distance(x[::-1].copy(), y, subsets=1, subset_size=40)[0] == pytest.approx(whole, rel=1e-4)  # float32
    parts = kernel_distance(x, y, subsets=50, subset_size=30)
    assert abs(parts[0] - whole) < 3 * parts[1] / np.sqrt(50) + 0.1 * whole


def test_unbiased():
    """Between sets of the same distribution it scatters around 0, also for small sets."""
    found = [kernel_distance(features(20, 2 * seed), features(20, 2 * seed + 1), subsets=1)[0] for seed in range(60)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(60)


def test_deviation_of_few_images():
    """It tells how far values of other images of the same number would scatter, within a factor of 2 (subsets overlap,
    and are half as large)."""
    pairs = [(features(200, 2 * seed), features(200, 2 * seed + 1)) for seed in range(20)]
    means, deviations = np.transpose([kernel_distance(*pair) for pair in pairs])
    assert 0.5 < np.mean(deviations) / np.std(means) < 2

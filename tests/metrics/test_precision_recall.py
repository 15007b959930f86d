"""Precision and recall against a naive second implementation, against torch-fidelity, and where they are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_fidelity.metric_prc import prc_features_to_metric

from threedgp.metrics.precision_recall import precision_recall


def features(count: int, seed: int, shift: float = 0.0, dims: int = 6) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(count, dims)) + shift).astype(np.float32)


def covered(points: np.ndarray, others: np.ndarray) -> float:
    """Fraction of points inside a ball of another set, with the distance to the third nearest neighbor as radius."""
    fellows = np.linalg.norm(others[:, None].astype(float) - others[None].astype(float), axis=2)
    radius = np.sort(fellows, axis=1)[:, 3]
    apart = np.linalg.norm(points[:, None].astype(float) - others[None].astype(float), axis=2)
    return float((apart <= radius).any(axis=1).mean())


def test_against_naive_implementation():
    fakes, reals = features(60, 0, 0.7), features(80, 1)
    found = precision_recall(fakes, reals)
    assert 0.1 < found[1] < 0.95
    assert found == pytest.approx((covered(fakes, reals), covered(reals, fakes)), abs=1e-6)


def test_torch_fidelity_gives_the_same():
    fakes, reals = features(90, 2, 0.5, 40), features(70, 3, 0, 40)
    theirs = prc_features_to_metric(torch.from_numpy(fakes), torch.from_numpy(reals), verbose=False)
    assert precision_recall(fakes, reals) == pytest.approx((theirs["precision"], theirs["recall"]), rel=1e-5)


def test_known_cases():
    reals = features(50, 4)
    assert precision_recall(reals, reals) == (1, 1)
    assert precision_recall(reals + 100, reals) == (0, 0)
    collapsed = reals[:1] + 1e-3 * features(50, 5)
    found = precision_recall(collapsed, reals)
    assert found[0] == 1  # every image looks real
    assert found[1] <= 2 / 50  # and they are all the same one


def test_order_and_blocks_do_not_matter():
    fakes, reals = features(60, 6, 0.5), features(60, 7)
    whole = precision_recall(fakes, reals)
    assert precision_recall(fakes[::-1].copy(), reals[::-1].copy()) == whole
    assert precision_recall(fakes, reals, block=17) == whole

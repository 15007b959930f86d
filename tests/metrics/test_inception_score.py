"""Inception score in cases whose value is known, and against torch-fidelity."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch_fidelity.metric_isc import isc_featuresdict_to_metric

from threedgp.metrics.inception_score import inception_score


def test_closed_forms():
    """One class each, all equally often: the number of classes. The same guess for every image: 1."""
    sure = np.tile(100 * np.eye(5, dtype=np.float32), (20, 1))
    assert inception_score(sure, splits=1)[0] == pytest.approx(5, rel=1e-6)
    assert inception_score(np.tile(sure[:1], (40, 1)))[0] == pytest.approx(1, rel=1e-6)


def test_published_settings_are_those_of_torch_fidelity():
    logits = np.random.default_rng(0).normal(size=(500, 30)).astype(np.float32)
    theirs = isc_featuresdict_to_metric({"logits": torch.from_numpy(logits)}, "logits", verbose=False)
    found = inception_score(logits)
    assert found[0] == pytest.approx(theirs["inception_score_mean"], rel=1e-5)
    assert found[1] == pytest.approx(theirs["inception_score_std"], rel=1e-5)


def test_order_of_images_does_not_change_the_result():
    logits = np.random.default_rng(1).normal(size=(100, 10)).astype(np.float32)
    whole = inception_score(logits, splits=1)[0]
    assert inception_score(logits[::-1].copy(), splits=1)[0] == pytest.approx(whole, rel=1e-9)


def test_a_network_without_a_classifier_has_no_score():
    assert all(math.isnan(value) for value in inception_score(np.empty((50, 0), np.float32)))

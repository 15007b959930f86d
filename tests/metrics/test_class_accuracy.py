"""Class accuracy against scikit-learn's logistic regression, and on sets whose accuracy is known."""

from __future__ import annotations

import numpy as np
import pytest

from threedgp.metrics.class_accuracy import WEIGHT_DECAY, LinearProbe, class_accuracy

Set = tuple[np.ndarray, np.ndarray]


def _blobs(count: int, seed: int, spread: float = 1.0) -> Set:
    """Four normal blobs in eight dimensions; labels 2, 5, 7 and 11."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(0).normal(size=(4, 8)) * 1.5
    which = rng.integers(0, 4, count)
    return (centers[which] + spread * rng.normal(size=(count, 8))).astype(np.float32), np.array([2, 5, 7, 11])[which]


def test_probe_is_logistic_regression() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    reals, labels = _blobs(400, 1)
    others, _ = _blobs(400, 2)
    mean, deviation = reals.mean(axis=0), reals.std(axis=0)
    # scikit-learn minimizes C times the sum of the losses plus half the squared norm.
    truth = linear_model.LogisticRegression(C=1 / (WEIGHT_DECAY * len(reals)), tol=1e-8, max_iter=1000)
    truth.fit((reals - mean) / deviation, labels)
    probe = LinearProbe(reals, labels)
    assert np.array_equal(probe(others), truth.predict((others - mean) / deviation))
    # Weights are defined up to a shift common to all classes, which the penalty removes.
    np.testing.assert_allclose(probe.weight.detach().numpy().T, truth.coef_, atol=2e-3)  # both stop near the optimum


def test_accuracy_of_known_sets() -> None:
    """Sharp blobs are all recognized; with shuffled labels a quarter is; a collapsed set has one class of four."""
    reals, labels = _blobs(400, 1, spread=0.1)
    good, good_labels = _blobs(2000, 2, spread=0.1)
    shuffled = np.random.default_rng(3).permutation(good_labels)
    collapsed = np.repeat(good[good_labels == 5][:1], len(good), axis=0)
    sets = {"good": good, "shuffled": good, "collapsed": collapsed}
    found = class_accuracy(sets, {"good": good_labels, "shuffled": shuffled, "collapsed": good_labels}, reals, labels)
    assert found["good"] == 1
    assert found["shuffled"] == pytest.approx(0.25, abs=0.03)  # three standard errors of 2,000 draws
    assert found["collapsed"] == np.mean(good_labels == 5)


def test_one_class_has_no_accuracy() -> None:
    reals, _ = _blobs(20, 1)
    labels = np.zeros(20, int)
    assert np.isnan(class_accuracy({"model": reals}, {"model": labels}, reals, labels)["model"])

"""Agreement of fields of view over classes, on cameras whose means are known."""

from __future__ import annotations

import numpy as np
import pytest

from threedgp.metrics._declaration import MODEL
from threedgp.metrics.class_fov import class_agreement, measure


def cameras(fov: np.ndarray) -> np.ndarray:
    found = np.zeros((len(fov), 8), np.float32)
    found[:, 3] = fov
    return found


def test_means_of_classes_are_compared() -> None:
    """Means 20, 30 and 25 against 22, 26 and 24, of different numbers of images, in another order."""
    labels, true_labels = np.array([0, 0, 1, 2, 2]), np.array([2, 1, 0, 0, 0, 0])
    fov, truth = np.array([10.0, 30, 30, 24, 26]), np.array([24.0, 26, 20, 22, 24, 22])
    correlation, error = class_agreement(fov, labels, truth, true_labels)
    assert correlation == pytest.approx(np.corrcoef([20, 30, 25], [22, 26, 24])[0, 1])
    assert error == pytest.approx((2 + 4 + 1) / 3)


def test_classes_that_only_one_side_has_are_left_out() -> None:
    fov, truth = np.array([20.0, 30, 25, 90]), np.array([20.0, 30, 25, 5])
    correlation, error = class_agreement(fov, np.array([0, 1, 2, 3]), truth, np.array([0, 1, 2, 4]))
    assert correlation == pytest.approx(1) and error == 0


def test_two_classes_have_no_correlation() -> None:
    """It would be 1 or -1 whatever the means are."""
    labels = np.array([0, 1])
    correlation, error = class_agreement(np.array([20.0, 20.1]), labels, np.array([20.0, 40]), labels)
    assert np.isnan(correlation) and error == pytest.approx(19.9 / 2)


def test_equal_means_have_no_correlation() -> None:
    labels = np.array([0, 1, 2])
    correlation, error = class_agreement(np.full(3, 25.0), labels, np.array([20.0, 30, 25]), labels)
    assert np.isnan(correlation) and error == pytest.approx(10 / 3)


def test_model_and_prior_are_measured_apart() -> None:
    labels = np.array([0, 1, 2])
    learned, prior, truth = np.array([20.0, 25, 30]), np.array([30.0, 25, 20]), np.array([21.0, 26, 31])
    found = measure({MODEL: cameras(learned)}, {MODEL: cameras(prior)}, {MODEL: labels}, cameras(truth), labels).numbers
    assert found[MODEL] == pytest.approx((1, 1)) and found["prior"] == pytest.approx((-1, (9 + 1 + 11) / 3))

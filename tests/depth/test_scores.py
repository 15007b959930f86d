"""AbsRel, delta1 and the alignment, against naive code and a scene of known depth."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from threedgp.depth.scores import Score, align, score

RNG = np.random.default_rng(0)


def motorcycle() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """True disparity in pixels and depth in millimetres, by the calibration in scikit-image's documentation."""
    from skimage.data import stereo_motorcycle  # ships with the package

    disparity = stereo_motorcycle()[2]
    return disparity, (994.978 * 193.001 / (disparity + 31.086)).astype(np.float32)


def test_alignment_is_least_squares() -> None:
    estimate, truth = RNG.normal(3, 2, 500), RNG.normal(10, 1, 500)
    truth += 0.7 * estimate
    design = np.stack([estimate, np.ones(500)], axis=1)
    solution = np.linalg.lstsq(design, truth, rcond=None)[0]
    np.testing.assert_allclose(align(estimate, truth), design @ solution, rtol=1e-10)


def test_scale_and_shift_do_not_matter() -> None:
    truth = RNG.uniform(1, 5, (20, 20)).astype(np.float32)
    found = score(3 * truth - 40, truth)
    # float32 keeps 24 bits of numbers around 40
    assert found.abs_rel < 1e-5 and found.delta1 == 1 and found.correlation == pytest.approx(1) and found.known == 1


def test_naive() -> None:
    truth = RNG.uniform(1, 5, (12, 15)).astype(np.float32)
    estimate = (truth + RNG.normal(0, 1, truth.shape)).astype(np.float32)
    aligned = align(estimate.ravel().astype(float), truth.ravel().astype(float)).reshape(truth.shape)
    errors, hits = [], 0
    for row in range(12):
        for column in range(15):
            a, d = aligned[row, column], float(truth[row, column])
            errors.append(abs(a - d) / d)
            hits += a > 0 and max(a / d, d / a) < 1.25
    found = score(estimate, truth)
    assert found.abs_rel == pytest.approx(sum(errors) / 180) and found.delta1 == hits / 180
    assert 0.1 < found.delta1 < 0.9
    assert found.correlation == pytest.approx(np.corrcoef(estimate.ravel(), truth.ravel())[0, 1], abs=1e-6)


@pytest.mark.parametrize("hole", [0.0, -1.0, np.nan, np.inf])
def test_holes_of_the_truth_count_nowhere(hole: float) -> None:
    truth = RNG.uniform(1, 5, (10, 10)).astype(np.float32)
    estimate = (truth + RNG.normal(0, 1, truth.shape)).astype(np.float32)
    whole = score(estimate[:, :6], truth[:, :6])
    truth[:, 6:] = hole
    estimate[:, 6:] = 1e6
    assert score(estimate, truth) == Score(whole.abs_rel, whole.delta1, whole.correlation, known=0.6)
    truth[:] = hole
    assert score(estimate, truth) is None


def test_upside_down_is_no_better_than_constant() -> None:
    truth = RNG.uniform(1, 5, (10, 10)).astype(np.float32)
    reverse, constant = score(-truth, truth), score(np.ones_like(truth), truth)
    assert reverse.correlation == pytest.approx(-1) and constant.correlation == 0
    expected = np.mean(np.abs(truth.mean() - truth) / truth)
    assert reverse.abs_rel == pytest.approx(constant.abs_rel) == pytest.approx(float(expected), rel=1e-5)


def test_aligned_depth_behind_the_camera_fails() -> None:
    truth = np.array([[1, 1, 1, 1, 10]], np.float32)
    estimate = np.array([[-5, 2, 2, 2, 10]], np.float32)
    aligned = align(estimate[0].astype(float), truth[0].astype(float))
    assert aligned[0] < 0
    assert score(estimate, truth).delta1 <= 0.8


def test_negated_inverse_depth_beats_a_guessed_shift() -> None:
    """Why inverse depth is negated: on a real scene, dividing by disparity without its shift is worse."""
    disparity, depth = motorcycle()
    known = np.isfinite(disparity)
    low, high = disparity[known].min(), disparity[known].max()
    relative = (disparity - low) / (high - low)  # what an estimator of inverse depth gives, at its best
    negated = score(-relative, depth)
    divided = [score(1 / (relative + shift), depth) for shift in (1e-3, 1e-2, 1e-1)]
    assert negated.known == pytest.approx(known.mean()) and negated.delta1 == 1
    assert negated.abs_rel < 0.05 < min(one.abs_rel for one in divided)
    assert divided[0].abs_rel > divided[1].abs_rel > divided[2].abs_rel
    right = (low + 31.086) / (high - low)  # the shift that nobody tells
    assert score(1 / (relative + right), depth).abs_rel < 1e-5

"""Frechet distance against closed forms and scipy's matrix square root."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from threedgp.features.moments import Moments
from threedgp.metrics.frechet import frechet_distance
from threedgp.runtime.errors import UserError


def gaussian(mean: np.ndarray, covariance: np.ndarray) -> Moments:
    return Moments(101, np.asarray(mean, float), 100 * np.asarray(covariance, float))


def features(count: int, dims: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, dims)) @ rng.normal(size=(dims, dims)) + rng.normal(size=dims)


def test_commuting_covariances():
    """For diagonal covariances: |m1 - m2|^2 + sum (s1 - s2)^2."""
    first = gaussian(np.array([1.0, 2.0, 0.0]), np.diag([4.0, 9.0, 0.0]))
    second = gaussian(np.array([0.0, 2.0, 2.0]), np.diag([1.0, 16.0, 25.0]))
    assert frechet_distance(first, second) == pytest.approx(5 + (2 - 1) ** 2 + (3 - 4) ** 2 + 5**2, rel=1e-12)


def test_against_matrix_square_root():
    first, second = (Moments.of(features(300, 12, seed)) for seed in (0, 1))
    product = scipy.linalg.sqrtm(first.covariance @ second.covariance)
    apart = first.mean - second.mean
    truth = apart @ apart + np.trace(first.covariance + second.covariance - 2 * product.real)
    assert frechet_distance(first, second) == pytest.approx(truth, rel=1e-9)


def test_singular_covariances():
    """Fewer samples than dimensions; two lines at an angle: tr(C1 C2)^(1/2) = s1 s2 |cos|."""
    first, second = np.zeros(3), np.zeros(3)
    u, v = np.array([1.0, 0, 0]), np.array([0.6, 0.8, 0])
    found = frechet_distance(gaussian(first, 4 * np.outer(u, u)), gaussian(second, 9 * np.outer(v, v)))
    assert found == pytest.approx(4 + 9 - 2 * 2 * 3 * 0.6, rel=1e-7)
    few = Moments.of(features(5, 40, 2))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-5 * np.trace(few.covariance))


def test_zero_of_itself_and_symmetric():
    first, second = (Moments.of(features(200, 30, seed)) for seed in (3, 4))
    scale = np.trace(first.covariance)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9 * scale)
    assert frechet_distance(first, second) == pytest.approx(frechet_distance(second, first), rel=1e-9)


def test_moments_stream_to_the_same_numbers():
    rows = features(100, 6, 5) + 1e3  # a large mean is where naive sums of squares fail
    streamed = Moments.of(rows[:1])
    for start, end in ((1, 40), (40, 41), (41, 100)):
        streamed = streamed + Moments.of(rows[start:end])
    assert streamed.count == 100
    np.testing.assert_allclose(streamed.mean, rows.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(streamed.covariance, np.cov(rows.T), rtol=1e-9)


def test_moments_files(tmp_path):
    moments = Moments.of(features(10, 4, 6))
    for name in ("a.npz", "b.npz"):
        moments.save(tmp_path / name, "key")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    loaded = Moments.load(tmp_path / "a.npz", "key")
    assert loaded.count == 10
    np.testing.assert_allclose(loaded.scatter, moments.scatter, rtol=1e-14)
    with pytest.raises(UserError, match=r"a\.npz.*other images or another network"):
        Moments.load(tmp_path / "a.npz", "another key")
    with pytest.raises(UserError, match=r"c\.npz.*missing"):
        Moments.load(tmp_path / "c.npz", "key")
    (tmp_path / "b.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"b\.npz.*cannot be read"):
        Moments.load(tmp_path / "b.npz", "key")


def test_torch_fidelity_gives_the_same():
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    first, second = features(400, 24, 7), features(300, 24, 8)
    statistics = [fid_features_to_statistics(torch.from_numpy(rows)) for rows in (first, second)]
    theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(Moments.of(first), Moments.of(second)) == pytest.approx(theirs, rel=1e-5)


def test_order_of_images_does_not_change_the_result():
    first, second = features(100, 8, 9), Moments.of(features(90, 8, 10))
    parts = Moments.of(first[60:]) + Moments.of(first[:60][::-1])
    assert frechet_distance(parts, second) == pytest.approx(frechet_distance(Moments.of(first), second), rel=1e-9)

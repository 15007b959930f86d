"""Published statistics of the real set: read without trust, and compared as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evaluation.networks import Means

from threedgp.config import parse_config
from threedgp.evaluation.measuring import load_metrics, measure
from threedgp.features.moments import Moments
from threedgp.features.statistics import read_published
from threedgp.metrics.frechet_reference import METRIC
from threedgp.runtime.errors import UserError

RNG = np.random.default_rng(0)
POOLED, SPATIAL = (RNG.normal(size=(50, size)) @ RNG.normal(size=(size, size)) for size in (6, 5))


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer features than the published 2,048 and 2,023."""
    monkeypatch.setattr("threedgp.features.statistics.PUBLISHED_SIZES", {"": 6, "_s": 5})


def arrays(**changes: np.ndarray) -> dict[str, np.ndarray]:
    """What ADM's evaluator stores: float64 means and unbiased covariances."""
    values = {"mu": POOLED.mean(0), "sigma": np.cov(POOLED.T), "mu_s": SPATIAL.mean(0), "sigma_s": np.cov(SPATIAL.T)}
    return values | changes


def test_statistics_are_those_of_the_features(tmp_path: Path) -> None:
    np.savez(tmp_path / "reference.npz", arr_0=np.zeros((2, 8, 8, 3), np.uint8), **arrays())
    for found, features in zip(read_published(tmp_path / "reference.npz"), (POOLED, SPATIAL), strict=True):
        truth = Moments.of(features)
        np.testing.assert_allclose(found.mean, truth.mean, rtol=1e-12)
        np.testing.assert_allclose(found.covariance, truth.covariance, rtol=1e-12, atol=1e-12)
    pooled, spatial = read_published(tmp_path / "reference.npz")
    fid, sfid = METRIC.function(Moments.of(POOLED), Moments.of(SPATIAL + 2), pooled, spatial)
    assert fid == pytest.approx(0, abs=1e-6 * np.trace(pooled.covariance))
    assert sfid == pytest.approx(5 * 2**2, rel=1e-6), "the same covariance, each mean 2 apart"


class Pickle:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


@pytest.mark.parametrize(
    "content",
    [
        {"mu": np.zeros(6)},
        arrays(sigma=np.zeros((5, 5))),
        arrays(mu=POOLED.mean(0)[:, None]),
        arrays(mu=np.zeros(5), sigma=np.eye(5)),
        arrays(mu_s=np.full(5, np.nan)),
        arrays(sigma_s=np.zeros((2100, 2100))),
        arrays(mu=np.array("text")),
        arrays(mu=np.array([Pickle()], object)),
    ],
    ids=["missing", "shapes", "column", "sizes", "nan", "large", "text", "pickle"],
)
def test_other_archives_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: dict) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("reference.npz", allow_pickle=True, **content)
    with pytest.raises(UserError, match=r"^features\.reference: reference\.npz does not hold the statistics mu, sigma"):
        read_published(Path("reference.npz"))
    assert not Path("ran").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"text"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "reference.npz").write_bytes(content)
    with pytest.raises(UserError, match="name another file"):
        read_published(tmp_path / "reference.npz")


def test_names_of_the_numbers(tmp_path: Path) -> None:
    """On the published network; a set without the statistics is left out."""

    class Inception(Means):
        name = "inception"

    moments = {"moments": lambda: Moments.of(POOLED), "spatial_moments": lambda: Moments.of(SPATIAL)}
    shared = {f"reference_{name}": load for name, load in moments.items()}
    metrics, networks = load_metrics(["frechet_reference"]), {"main": Inception()}
    rows = measure(metrics, {"model": moments}, shared, networks, tmp_path)
    assert [row.name for row in rows] == ["fid_reference", "sfid"]
    assert measure(metrics, {"model": moments}, {}, networks, tmp_path) == []


def test_only_inception_has_published_statistics() -> None:
    features = {"network": "efficientnet_lite0", "reference": "a.npz"}
    with pytest.raises(UserError, match=r"features\.reference: holds statistics of Inception; set network"):
        parse_config({"dataset": {"name": "a", "source": "procedural"}, "features": features})

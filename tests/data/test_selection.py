"""Instance selection against scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture

from threedgp.data import schemas, selection
from threedgp.data.selection import log_likelihoods, select, select_set
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.errors import UserError

RNG = np.random.default_rng(0)
FEATURES = (RNG.normal(size=(300, 12)) @ RNG.normal(size=(12, 12))).astype(np.float32)
LABELS = RNG.integers(0, 4, 300).astype(np.int32)


@pytest.mark.parametrize("count", [300, 40, 5, 1])
def test_likelihoods_are_those_of_scikit_learn(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features = FEATURES[:count]
    monkeypatch.setattr(selection, "BLOCK_ROWS", 64)
    ours = log_likelihoods(features, 1e-3)
    # scikit-learn wants two samples at least; twice the same has the same Gaussian.
    fitted = GaussianMixture(1, reg_covar=1e-3, tol=1e-12).fit(np.repeat(features, 2, axis=0).astype(np.float64))
    np.testing.assert_allclose(ours, fitted.score_samples(features.astype(np.float64)), rtol=1e-7)


def test_keeps_the_most_likely_of_each_class() -> None:
    kept = select(FEATURES, LABELS, 0.3, 1e-5)
    for label in range(4):
        likelihoods = log_likelihoods(FEATURES[label == LABELS], 1e-5)
        chosen = kept[label == LABELS]
        assert chosen.sum() == round(0.3 * len(chosen))
        assert likelihoods[chosen].min() > likelihoods[~chosen].max()


def test_fewer_pictures_than_dimensions() -> None:
    kept = select(RNG.normal(size=(7, 50)).astype(np.float32), np.array([0, 0, 0, 0, 1, 1, 2], np.int32), 0.5, 1e-5)
    assert kept[:4].sum() == 2 and kept[4:6].sum() == 1 and kept[6]


def test_equal_pictures_keep_the_first() -> None:
    kept = select(np.ones((4, 3), np.float32), np.zeros(4, np.int32), 0.5, 1e-5)
    assert kept.tolist() == [True, True, False, False]


def write_features(folder: Path, order: NDArray[np.int64], shard_rows: int) -> ShardFolder:
    writer = ShardWriter(folder, schemas.features(12), "features", {})
    for shard, start in enumerate(range(0, len(order), shard_rows)):
        rows = order[start : start + shard_rows]
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(FEATURES[rows].ravel()), 12)
        names = [f"{row:03d}" for row in rows]
        writer.write(shard, pa.table({"id": names, "label": pa.array(LABELS[rows]), "feature": vectors}))
    writer.finish()
    return ShardFolder(folder)


def test_order_of_shards_does_not_matter(tmp_path: Path) -> None:
    tables = []
    for number, shard_rows in enumerate((300, 77)):
        order = np.random.default_rng(number).permutation(300)
        folder = tmp_path / str(number)
        select_set(write_features(folder / "features", order, shard_rows), folder / "selected", 0.3333, 1e-5)
        assert (folder / "selected/ids.parquet").is_file()
        tables.append(ShardFolder(folder / "selected").read(0))
    assert tables[0].equals(tables[1])
    expected = np.flatnonzero(select(FEATURES, LABELS, 0.3333, 1e-5))
    assert tables[0]["id"].to_pylist() == [f"{row:03d}" for row in expected]
    assert tables[0]["label"].to_pylist() == LABELS[expected].tolist()


def test_keeping_all(tmp_path: Path) -> None:
    select_set(write_features(tmp_path / "features", np.arange(300), 100), tmp_path / "selected", 1.0, 1e-5)
    assert ShardFolder(tmp_path / "selected").manifest.rows == 300


def test_broken_feature_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = FEATURES.copy()
    broken[123, 4] = np.nan
    monkeypatch.setitem(globals(), "FEATURES", broken)
    with pytest.raises(UserError, match="features of 123 are not finite"):
        select_set(write_features(tmp_path / "features", np.arange(300), 100), tmp_path / "selected", 0.5, 1e-5)

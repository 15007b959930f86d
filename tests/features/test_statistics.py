"""Moments of stored features: exact, and the same bytes for any number of threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from threedgp.data import schemas
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.features import statistics
from threedgp.features.moments import Moments
from threedgp.features.statistics import STATISTICS, statistics_key, write_statistics

DIM = 6
# Far from zero, where sums of squares would lose half of their digits.
VECTORS = (1000 + np.random.default_rng(0).normal(size=(97, DIM))).astype(np.float32)
ROWS = [10, 0, 25, 1, 0, 0, 30, 20, 11]


@pytest.fixture
def prepared(tmp_path: Path) -> ShardFolder:
    writer = ShardWriter(tmp_path / "prepared", schemas.PREPARED, "prepared", {})
    writer.write(0, schemas.PREPARED.empty_table())
    writer.finish()
    return ShardFolder(tmp_path / "prepared")


def features(folder: Path) -> ShardFolder:
    writer = ShardWriter(folder, schemas.features(DIM), "features", {})
    for shard, rows in enumerate(np.split(VECTORS, np.cumsum(ROWS)[:-1])):
        table = pa.table(
            {
                "id": [str(row) for row in range(len(rows))],
                "label": pa.array([0] * len(rows), pa.int32()),
                "feature": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel(), pa.float32()), DIM),
            }
        )
        writer.write(shard, table)
    writer.finish()
    return ShardFolder(folder)


def test_statistics_are_those_of_all_vectors(tmp_path, prepared, monkeypatch):
    monkeypatch.setattr(statistics, "SHARDS_OF_A_PART", 2)  # one part is empty
    folder = features(tmp_path / "features")
    write_statistics(folder, prepared, "network")
    found = Moments.load(folder.folder / STATISTICS, statistics_key(prepared, "network"))
    exact = VECTORS.astype(np.longdouble)
    assert found.count == 97
    # Roundings of float64: a deviation from a mean of 1000 carries some 1e-13.
    np.testing.assert_allclose(found.mean, exact.mean(axis=0).astype(float), rtol=1e-15)
    centered = exact - exact.mean(axis=0)
    np.testing.assert_allclose(found.covariance, (centered.T @ centered / 96).astype(float), rtol=0, atol=1e-12)


def test_number_of_threads_does_not_change_the_bytes(tmp_path, prepared, monkeypatch):
    monkeypatch.setattr(statistics, "SHARDS_OF_A_PART", 2)
    alone, shared = features(tmp_path / "alone"), features(tmp_path / "shared")
    write_statistics(alone, prepared, "network")
    write_statistics(shared, prepared, "network", workers=3)
    assert (shared.folder / STATISTICS).read_bytes() == (alone.folder / STATISTICS).read_bytes()


def test_order_and_batches_change_only_the_last_bits():
    shuffled = np.random.default_rng(1).permutation(VECTORS)
    total = Moments.of(shuffled[:1])
    for start, stop in ((1, 2), (2, 40), (40, 41), (41, 97)):
        total = total + Moments.of(shuffled[start:stop])
    whole = Moments.of(VECTORS)
    np.testing.assert_allclose(total.mean, whole.mean, rtol=1e-14)
    np.testing.assert_allclose(total.covariance, whole.covariance, rtol=0, atol=1e-12)
    np.testing.assert_allclose(whole.covariance, np.cov(VECTORS.T.astype(float)), rtol=0, atol=1e-12)

"""Instance selection against scikit-learn, in any order of the images, within bounds of memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture

from threedgp.config import SelectConfig
from threedgp.data import schemas, selection
from threedgp.data.selection import choose, gather_features, log_likelihoods, rows_of_classes, select_set
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.runtime.errors import UserError

RNG = np.random.default_rng(0)
FEATURES = (RNG.normal(size=(300, 12)) @ RNG.normal(size=(12, 12))).astype(np.float32)
LABELS = RNG.integers(0, 4, 300).astype(np.int32)


@pytest.mark.parametrize("count", [300, 40, 5, 1])
@pytest.mark.parametrize("regularizer", [1e-3, 1e-5])
def test_likelihoods_are_those_of_scikit_learn(count: int, regularizer: float, monkeypatch: pytest.MonkeyPatch) -> None:
    features = FEATURES[:count]
    monkeypatch.setattr(selection, "BLOCK_ROWS", 64)
    ours = log_likelihoods(features, regularizer)
    # scikit-learn wants two samples at least; twice the same has the same Gaussian.
    fitted = GaussianMixture(1, reg_covar=regularizer, tol=1e-12).fit(np.repeat(features, 2, axis=0).astype(np.float64))
    # A covariance of condition 1e7 (5 images, 12 dimensions) reduces the 1e-16 of float64 to 1e-9.
    np.testing.assert_allclose(ours, fitted.score_samples(features.astype(np.float64)), rtol=1e-7)


def test_regularizer_that_rounding_swallows() -> None:
    with pytest.raises(UserError, match=r"select\.covariance_regularizer: 1e-20 .*; raise it"):
        log_likelihoods(FEATURES[:5], 1e-20)


def test_keeps_what_scikit_learn_finds_likely() -> None:
    """A class of more and one of fewer images than dimensions, at the published regularizer and fraction."""
    for members in (FEATURES[:200], RNG.normal(size=(9, 12)).astype(np.float32)):
        fitted = GaussianMixture(1, reg_covar=1e-5).fit(members.astype(np.float64))
        likely = np.argsort(-fitted.score_samples(members.astype(np.float64)))[: round(len(members) / 3)]
        kept = choose(log_likelihoods(members, 1e-5), [slice(0, len(members))], 1 / 3, None)
        assert set(np.flatnonzero(kept)) == set(likely)


LIKELIHOODS = np.array([3.0, 1, 2, 5, 4, 9, 7, 8, 0])
CLASSES = [slice(0, 4), slice(4, 8), slice(8, 9)]


@pytest.mark.parametrize(
    ("fraction", "count", "kept"),
    [
        (0.5, None, [0, 3, 5, 7, 8]),  # a class of one keeps it
        (0.01, None, [3, 5, 8]),
        (1.0, None, list(range(9))),
        (0.5, 3, [0, 2, 3, 5, 6, 7, 8]),
        (1.0, 1, [3, 5, 8]),
    ],
)
def test_choice(fraction: float, count: int | None, kept: list[int]) -> None:
    assert np.flatnonzero(choose(LIKELIHOODS, CLASSES, fraction, count)).tolist() == kept


def test_equal_images_keep_the_first() -> None:
    likelihoods = log_likelihoods(np.ones((4, 3), np.float32), 1e-5)
    assert choose(likelihoods, [slice(0, 4)], 0.5, None).tolist() == [True, True, False, False]
    kept = choose(np.tile([0.0, 1.0], 100), [slice(0, 200)], 0.75, None)  # NumPy's default sort is not stable
    assert kept.tolist() == [index % 2 == 1 or index < 100 for index in range(200)]


def test_rows_of_classes() -> None:
    assert rows_of_classes(np.array([0, 0, 3, 4, 4])) == [slice(0, 2), slice(2, 3), slice(3, 5)]
    assert rows_of_classes(np.array([], np.int32)) == []


def write_features(
    folder: Path,
    order: NDArray[np.int64],
    shard_rows: int,
    features: NDArray[np.float32] = FEATURES,
    labels: NDArray[np.int32] = LABELS,
) -> ShardFolder:
    dim = features.shape[1]
    writer = ShardWriter(folder, schemas.features(dim), "features", {})
    for shard, start in enumerate(range(0, len(order), shard_rows)):
        rows = order[start : start + shard_rows]
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(features[rows].ravel()), dim)
        names = [f"{row:05d}" for row in rows]
        writer.write(shard, pa.table({"id": names, "label": pa.array(labels[rows]), "feature": vectors}))
    writer.finish()
    return ShardFolder(folder)


def test_order_of_shards_does_not_matter(tmp_path: Path) -> None:
    tables = []
    for number, shard_rows in enumerate((300, 77)):
        order = np.random.default_rng(number).permutation(300)
        folder = tmp_path / str(number)
        select_set(write_features(folder / "features", order, shard_rows), folder / "out/selected", SelectConfig())
        assert (folder / "out/selected/ids.parquet").is_file()
        tables.append(ShardFolder(folder / "out/selected").read(0))
    assert tables[0].equals(tables[1])
    expected = np.zeros(300, bool)
    for label in range(4):
        (members,) = np.nonzero(label == LABELS)
        expected[members] = choose(
            log_likelihoods(FEATURES[members], 1e-5), [slice(0, len(members))], SelectConfig().keep_fraction, None
        )
    assert tables[0]["id"].to_pylist() == [f"{row:05d}" for row in np.flatnonzero(expected)]
    assert tables[0]["label"].to_pylist() == LABELS[expected].tolist()


def test_keeping_all_and_keeping_a_count(tmp_path: Path) -> None:
    features = write_features(tmp_path / "features", np.arange(300), 100)
    for number, (settings, rows) in enumerate([({"keep_fraction": 1}, 300), ({"keep_count": 10}, 40)]):
        select_set(features, tmp_path / str(number) / "selected", SelectConfig(**settings))
        assert ShardFolder(tmp_path / str(number) / "selected").manifest.rows == rows


def test_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = write_features(tmp_path / "features", RNG.permutation(300), 50)
    select_set(features, tmp_path / "whole/selected", SelectConfig())
    real, calls = {"read": ShardFolder.read, "fit": selection.log_likelihoods}, {"read": 0, "fit": 0}

    def stop_at_third(name: str, *arguments: object) -> object:
        calls[name] += 1
        if calls[name] == 3:
            raise KeyboardInterrupt
        return real[name](*arguments)

    monkeypatch.setattr(
        ShardFolder, "read", lambda *a: stop_at_third("read", *a) if "feature" in a[2] else real["read"](*a)
    )
    monkeypatch.setattr(selection, "log_likelihoods", lambda *a: stop_at_third("fit", *a))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            select_set(features, tmp_path / "stopped/selected", SelectConfig())
    select_set(features, tmp_path / "stopped/selected", SelectConfig())
    assert calls == {"read": 6 + 1, "fit": 4 + 1}  # six shards, four classes, and the calls that were stopped
    assert (tmp_path / "stopped/selected/manifest.json").read_bytes() == (
        tmp_path / "whole/selected/manifest.json"
    ).read_bytes()


def test_a_record_of_features_that_are_gone_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = write_features(tmp_path / "features", RNG.permutation(300), 50)
    select_set(features, tmp_path / "whole/selected", SelectConfig())
    monkeypatch.setattr(selection, "log_likelihoods", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        select_set(features, tmp_path / "stopped/selected", SelectConfig())
    monkeypatch.undo()
    (tmp_path / "stopped/features.npy").unlink()
    select_set(features, tmp_path / "stopped/selected", SelectConfig())
    whole, stopped = (tmp_path / name / "selected/manifest.json" for name in ("whole", "stopped"))
    assert stopped.read_bytes() == whole.read_bytes()


def test_memory_does_not_grow_with_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Peak of the sets A and 4 A, one class each: the second one may take what ids and labels take, no more."""
    monkeypatch.setattr(selection, "BLOCK_ROWS", 256)
    peaks = []
    for count in (2_000, 8_000):
        values = RNG.normal(size=(count, 64)).astype(np.float32)
        labels = np.zeros(count, np.int32)
        features = write_features(tmp_path / str(count), np.arange(count), 500, values, labels)
        tracemalloc.start()
        select_set(features, tmp_path / f"out{count}/selected", SelectConfig())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # float64 features would be 8000 x 64 x 8 bytes = 4.1 MB; an image's likelihood, order, place and id take 60 bytes.
    assert peaks[1] - peaks[0] < 6_000 * 100


def test_broken_feature_is_named(tmp_path: Path) -> None:
    broken = FEATURES.copy()
    broken[123, 4] = np.nan
    features = write_features(tmp_path / "features", np.arange(300), 100, broken)
    with pytest.raises(UserError, match="features of 00123 are not finite"):
        select_set(features, tmp_path / "out/selected", SelectConfig())


def test_space_is_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features, path = write_features(tmp_path / "f", np.arange(300), 100), tmp_path / "features.npy"
    monkeypatch.setattr(ShardFolder, "read", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        gather_features(features, np.arange(300), path)
    assert 512 * path.stat().st_blocks >= path.stat().st_size > 300 * 12 * 4


def test_needs_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(UserError, match="needed"):
        select_set(write_features(tmp_path / "f", np.arange(300), 100), tmp_path / "out/selected", SelectConfig())

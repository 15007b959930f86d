"""Features of sets: values, order, shared work and resumption."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evaluation.networks import Means

from threedgp.data.shards import ShardFolder
from threedgp.evaluation.features import extract_features, extracted, moments
from threedgp.evaluation.streams import Stream, stored
from threedgp.features.extraction import write_features
from threedgp.features.network import Features
from threedgp.features.statistics import read_vectors
from threedgp.runtime.processes import ProcessGroup

PICTURES = np.random.default_rng(0).integers(0, 256, (10, 3, 8, 8), dtype=np.uint8)
STREAM = Stream(10, [lambda: PICTURES[:4], lambda: PICTURES[4:8], lambda: PICTURES[8:]])
EXPECTED = Means()(torch.from_numpy(PICTURES))


class Spatial(Means):
    """Has spatial features, too: the first row of the red channel."""

    def __call__(self, images: torch.Tensor) -> Features:
        return super().__call__(images)._replace(spatial=images[:, 0, 0].float())


def test_spatial_features_are_kept_where_the_network_has_them(tmp_path):
    extract_features(STREAM, Spatial(), batch_size=3, folder=tmp_path, label="test")
    np.testing.assert_array_equal(extracted(STREAM, tmp_path, "spatial").whole(), PICTURES[:, 0, 0])


def test_features_of_a_stream(tmp_path):
    extract_features(STREAM, Means(), batch_size=3, folder=tmp_path, label="test", workers=2)
    np.testing.assert_allclose(extracted(STREAM, tmp_path).whole(), EXPECTED.pooled, rtol=1e-6)
    np.testing.assert_allclose(extracted(STREAM, tmp_path, "logits").whole(), EXPECTED.logits, rtol=1e-6)
    found = moments(extracted(STREAM, tmp_path))
    assert found.count == 10
    np.testing.assert_allclose(found.covariance, np.cov(EXPECTED.pooled.T), rtol=1e-5)


def test_processes_share_the_parts_and_write_the_same_bytes(tmp_path):
    extract_features(STREAM, Means(), batch_size=3, folder=tmp_path / "one", label="test")
    for rank in (1, 0):
        network = Means()
        extract_features(
            STREAM, network, batch_size=3, folder=tmp_path / "two", label="test", group=ProcessGroup(rank, 2)
        )
        assert network.seen == (4 if rank else 6)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    np.testing.assert_allclose(extracted(STREAM, tmp_path / "two").whole(), EXPECTED.pooled, rtol=1e-6)


def test_finished_files_are_kept(tmp_path):
    class Breaks(Means):
        def __call__(self, images):
            if self.seen >= 8:
                raise KeyboardInterrupt
            return super().__call__(images)

    with pytest.raises(KeyboardInterrupt):
        extract_features(STREAM, Breaks(), batch_size=4, folder=tmp_path, label="test")
    network = Means()
    extract_features(STREAM, network, batch_size=4, folder=tmp_path, label="test")
    assert network.seen == 2
    assert len(extracted(STREAM, tmp_path).whole()) == 10


def test_stored_features_are_rows_of_stage_features(world, tmp_path):
    write_features(world.prepared, Means(), 5, tmp_path / "features")
    shards = ShardFolder(tmp_path / "features")
    everything = stored(shards, np.arange(24), "feature", read_vectors).whole()
    rows = np.array([0, 6, 7, 20])
    some = stored(shards, rows, "feature", read_vectors)
    np.testing.assert_array_equal(some.whole(), everything[rows])
    np.testing.assert_allclose(moments(some).mean, everything[rows].mean(axis=0, dtype=float), rtol=1e-6)

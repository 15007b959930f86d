"""Features of sets: the right ones in the right order, whoever makes them; finished files are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evaluation.networks import Means

from threedgp.data.shards import ShardFolder
from threedgp.evaluation.features import ExtractedFeatures, StoredFeatures, extract_features
from threedgp.evaluation.streams import Stream
from threedgp.features.extraction import write_features
from threedgp.runtime.processes import ProcessGroup

PICTURES = np.random.default_rng(0).integers(0, 256, (10, 3, 8, 8), dtype=np.uint8)
STREAM = Stream(10, [lambda: PICTURES[:4], lambda: PICTURES[4:8], lambda: PICTURES[8:]])
EXPECTED = Means()(torch.from_numpy(PICTURES))


def test_features_of_a_stream(tmp_path):
    found = extract_features(STREAM, Means(), batch_size=3, folder=tmp_path, label="test", workers=2)
    np.testing.assert_allclose(found.column("pooled"), EXPECTED.pooled, rtol=1e-6)
    np.testing.assert_allclose(found.column("logits"), EXPECTED.logits, rtol=1e-6)
    moments = found.moments()
    assert moments.count == 10
    np.testing.assert_allclose(moments.covariance, np.cov(EXPECTED.pooled.T), rtol=1e-5)


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
    np.testing.assert_allclose(ExtractedFeatures(STREAM, tmp_path / "two").column("pooled"), EXPECTED.pooled, rtol=1e-6)


def test_what_is_done_is_kept(tmp_path):
    class Breaks(Means):
        def __call__(self, images):
            if self.seen >= 8:
                raise KeyboardInterrupt
            return super().__call__(images)

    with pytest.raises(KeyboardInterrupt):
        extract_features(STREAM, Breaks(), batch_size=4, folder=tmp_path, label="test")
    network = Means()
    found = extract_features(STREAM, network, batch_size=4, folder=tmp_path, label="test")
    assert network.seen == 2
    assert len(found.column("pooled")) == 10


def test_stored_features_are_rows_of_the_stage_features(world, tmp_path):
    write_features(world.prepared, Means(), 5, tmp_path / "features")
    shards = ShardFolder(tmp_path / "features")
    everything = StoredFeatures(shards, np.arange(24)).column("pooled")
    rows = np.array([0, 6, 7, 20])
    some = StoredFeatures(shards, rows)
    np.testing.assert_array_equal(some.column("pooled"), everything[rows])
    np.testing.assert_allclose(some.moments().mean, everything[rows].mean(axis=0, dtype=float), rtol=1e-6)

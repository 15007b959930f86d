"""Features of shards: rows keep their order and place, finished shards are kept, statistics are those of the set."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from threedgp.data import schemas
from threedgp.data.images import encode_image
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.features.extraction import write_embeddings, write_features
from threedgp.features.moments import Moments
from threedgp.features.network import Features
from threedgp.features.statistics import STATISTICS, read_vectors, statistics_key


class ChannelMeans:
    """Stands in for a network: its features are known."""

    name, identity, feature_dim, input_size = "means", "means-1", 3, 4
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, images: torch.Tensor) -> Features:
        assert images.dtype == torch.uint8
        self.seen += len(images)
        return Features(images.float().mean(dim=(2, 3)), torch.zeros(len(images), 10))


PICTURES = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), dtype=np.uint8)
IDS = [f"picture-{number}" for number in range(7)]


@pytest.fixture
def prepared(tmp_path: Path) -> ShardFolder:
    """Seven images in shards of three."""
    writer = ShardWriter(tmp_path / "prepared", schemas.PREPARED, "prepared", {"num_classes": 2})
    for part, start in enumerate((0, 3, 6)):
        rows = [
            {"id": IDS[i], "label": i % 2, "image": {"bytes": encode_image(PICTURES[i], "png")}, "crop": [0, 0, 4, 4]}
            for i in range(start, min(start + 3, 7))
        ]
        writer.write(part, pa.Table.from_pylist(rows, schemas.PREPARED))
    writer.finish()
    return ShardFolder(tmp_path / "prepared")


@pytest.fixture
def selected(tmp_path: Path) -> ShardFolder:
    """None of the second shard."""
    writer = ShardWriter(tmp_path / "selected", schemas.SELECTED, "selected", {})
    writer.write(0, pa.Table.from_pylist([{"id": IDS[i], "label": i % 2} for i in (0, 2, 6)], schemas.SELECTED))
    writer.finish()
    return ShardFolder(tmp_path / "selected")


MEANS = PICTURES.mean(axis=(1, 2))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_rows_and_statistics(tmp_path, prepared):
    write_features(prepared, ChannelMeans(), 2, tmp_path / "features")
    features = ShardFolder(tmp_path / "features")
    assert [file.rows for file in features.manifest.files] == [3, 3, 1]
    assert features.column("id").to_pylist() == IDS
    assert features.column("label").to_pylist() == [0, 1, 0, 1, 0, 1, 0]
    np.testing.assert_allclose(read_vectors(features.column("feature")), MEANS, rtol=1e-6)

    moments = Moments.load(tmp_path / "features" / STATISTICS, statistics_key(prepared, "means-1"))
    assert moments.count == 7
    np.testing.assert_allclose(moments.covariance, np.cov(MEANS.T), rtol=1e-5)


def test_finished_shards_are_not_computed_again(tmp_path, prepared):
    class Broken(ChannelMeans):
        def __call__(self, images: torch.Tensor) -> Features:
            if self.seen:
                raise KeyboardInterrupt
            return super().__call__(images)

    with pytest.raises(KeyboardInterrupt):
        write_features(prepared, Broken(), 3, tmp_path / "features")
    extractor = ChannelMeans()
    write_features(prepared, extractor, 3, tmp_path / "features")
    assert extractor.seen == 4
    write_features(prepared, ChannelMeans(), 3, tmp_path / "at once")
    assert contents(tmp_path / "at once") == contents(tmp_path / "features")


def test_threads_take_turns_on_a_gpu(tmp_path, prepared):
    class OneAtATime(ChannelMeans):
        device = torch.device("cuda")  # only said to be one

        def __call__(self, images: torch.Tensor) -> Features:
            assert not self.seen % 2, "two threads at once"
            self.seen += 1
            time.sleep(0.005)
            self.seen += 1
            return Features(images.float().mean(dim=(2, 3)), torch.zeros(len(images), 10))

    write_features(prepared, OneAtATime(), 1, tmp_path / "many" / "features", workers=4)
    write_features(prepared, ChannelMeans(), 1, tmp_path / "one" / "features")
    assert contents(tmp_path / "many" / "features") == contents(tmp_path / "one" / "features")


def test_one_thread_per_worker_on_a_cpu(tmp_path, prepared):
    class Counting(ChannelMeans):
        def __call__(self, images: torch.Tensor) -> Features:
            assert torch.get_num_threads() == 1
            return super().__call__(images)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        write_features(prepared, Counting(), 2, tmp_path / "features", workers=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_embeddings_of_selected_images(tmp_path, prepared, selected):
    write_embeddings(prepared, selected, ChannelMeans(), 2, tmp_path / "embed")
    embed = ShardFolder(tmp_path / "embed")
    assert [file.rows for file in embed.manifest.files] == [2, 0, 1]
    assert embed.column("id").to_pylist() == [IDS[0], IDS[2], IDS[6]]
    assert embed.schema.field("embedding").type.value_type == pa.float16()
    assert embed.meta["embedding_dim"] == 3
    vectors = np.array(embed.column("embedding").to_pylist())
    np.testing.assert_allclose(vectors, MEANS[[0, 2, 6]], rtol=1e-3)  # float16


def test_without_an_embedder_only_ids_are_written(tmp_path, prepared, selected):
    write_embeddings(prepared, selected, None, 2, tmp_path / "embed")
    embed = ShardFolder(tmp_path / "embed")
    assert embed.schema.names == ["id"]
    assert embed.column("id").to_pylist() == [IDS[0], IDS[2], IDS[6]]
    assert embed.meta["embedder"] == "none"
    assert embed.meta["embedding_dim"] == 0

"""The loader: right rows, one order for all workers, ranks and resume positions, damage is found."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from threedgp.data import loader as loader_module
from threedgp.data.loader import DEPTH_UNIT, Batch, ShardLoader
from threedgp.data.order import WINDOW_GROUPS
from threedgp.data.shards import ShardFolder
from threedgp.runtime.errors import UserError

MakeShards = Callable[..., Path]


def batches(folder: Path, count: int, batch_size: int = 8, seed: int = 5, **settings: int) -> list[Batch]:
    loader = ShardLoader(folder, batch_size, seed, **settings)
    try:
        return list(itertools.islice(loader, count))
    finally:
        loader.close()


def labels(found: list[Batch]) -> list[int]:
    return torch.cat([batch.label for batch in found]).tolist()


def test_rows_are_right(training_shards: MakeShards) -> None:
    folder = training_shards([21, 30, 6])
    for batch in batches(folder, 20):
        row = batch.label.numpy()
        assert batch.image.shape == (8, 3, 8, 8) and batch.image.dtype == torch.uint8
        assert batch.depth.shape == (8, 1, 8, 8) and batch.depth.dtype == torch.int16
        assert batch.embedding.dtype == torch.float32 and batch.label.dtype == batch.index.dtype == torch.int64
        color = np.stack([row % 256, row // 256, np.full(8, 7)], axis=1)
        np.testing.assert_array_equal(batch.image.numpy(), np.broadcast_to(color[..., None, None], (8, 3, 8, 8)))
        depth = batch.depth[:, 0, 3, 3].numpy() * DEPTH_UNIT
        np.testing.assert_array_equal(depth, row * 5 / 65536 * 2 - 1)
        np.testing.assert_array_equal(batch.embedding.numpy(), np.repeat(row[:, None], 3, axis=1))


def test_attributes(training_shards: MakeShards) -> None:
    loader = ShardLoader(training_shards([21, 30], dim=3), 8, 0)
    assert (loader.size, loader.resolution, loader.embedding_dim, loader.num_classes) == (51, 8, 3, 10_000)
    assert loader.class_counts.dtype == np.int64 and len(loader.content_hash) == 64
    loader.close()


def test_without_embeddings(training_shards: MakeShards) -> None:
    (batch,) = batches(training_shards([20], dim=0), 1)
    assert batch.embedding.shape == (8, 0)


def test_samples_are_counted_on(training_shards: MakeShards) -> None:
    found = batches(training_shards([10]), 5, position=3)
    assert torch.cat([batch.index for batch in found]).tolist() == list(range(3, 43))


def test_workers_change_nothing(training_shards: MakeShards) -> None:
    folder = training_shards([21, 30, 6])
    first = batches(folder, 25, workers=1)
    for workers in (2, 5):
        again = batches(folder, 25, workers=workers)
        assert labels(first) == labels(again)
        assert all(torch.equal(a.image, b.image) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_ranks_share_each_batch(training_shards: MakeShards, world_size: int) -> None:
    folder = training_shards([21, 30, 6])
    whole = batches(folder, 12)
    parts = [batches(folder, 12, rank=rank, world_size=world_size) for rank in range(world_size)]
    for step, batch in enumerate(whole):
        assert labels([batch]) == labels([part[step] for part in parts])
        assert batch.index.tolist() == [i for part in parts for i in part[step].index.tolist()]


@pytest.mark.parametrize("position", [1, 8, 56, 57, 64, 1000])
def test_resumes_anywhere(training_shards: MakeShards, position: int) -> None:
    folder = training_shards([21, 30, 6])
    whole = labels(batches(folder, 140))
    assert labels(batches(folder, 5, position=position)) == whole[position : position + 40]


def test_set_smaller_than_the_batch(training_shards: MakeShards) -> None:
    folder = training_shards([3, 2], group_rows=2)
    found = labels(batches(folder, 5))
    for epoch in range(8):
        assert sorted(found[epoch * 5 : epoch * 5 + 5]) == list(range(5))


def test_memory_is_bounded_and_each_group_is_read_once_per_epoch(
    training_shards: MakeShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, reads = ShardFolder.read_group, []
    monkeypatch.setattr(ShardFolder, "read_group", lambda *arguments: reads.append(1) or real(*arguments))
    loader = ShardLoader(training_shards([100, 100]), 8, 5, workers=3)
    for _ in range(25 - 3 * loader_module.AHEAD):
        next(loader)
        assert loader._groups.cache_info().currsize <= 2 * WINDOW_GROUPS
    loader.close()
    assert len(reads) <= 50


def repeat(folder: Path, shards: int) -> Path:
    """The shards of `folder` as `shards` ones, by links; the work of looking at them is that of real ones."""
    manifest = json.loads((folder / "manifest.json").read_text())
    large = folder.with_name("large")
    large.mkdir()
    files = [{**manifest["files"][n % len(manifest["files"])], "name": f"{n}.parquet"} for n in range(shards)]
    for n, file in enumerate(files):
        os.link(folder / f"part-{n % len(manifest['files']):05d}.parquet", large / file["name"])
    rows = sum(file["rows"] for file in files)
    (large / "manifest.json").write_text(json.dumps({**manifest, "files": files, "rows": rows}))
    return large


@pytest.mark.parametrize("position", [0, 1_234_567_890])
def test_start_and_resume_do_not_grow_with_the_set(
    training_shards: MakeShards, position: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = training_shards([32, 32])
    opened: dict[Path, set[Path]] = {small: set(), (large := repeat(small, 300)): set()}
    groups = dict.fromkeys(opened, 0)
    real = ShardFolder.read_group

    def count(self: ShardFolder, index: int, *more: object) -> pa.Table:
        opened[self.folder].add(self.path(index))
        groups[self.folder] += 1
        return real(self, index, *more)

    monkeypatch.setattr(ShardFolder, "read_group", count)
    for folder in opened:
        batches(folder, 1, position=position, workers=1)
    # The first batches lie in one shard, or in two where one ends.
    assert len(opened[small]) <= 2 and len(opened[large]) <= 2
    assert groups[large] <= 2 * WINDOW_GROUPS


def test_next_shard_is_checked_ahead(training_shards: MakeShards) -> None:
    loader = ShardLoader(training_shards([64, 64, 64]), 4, 0, workers=1)
    here = set(next(loader).label.tolist())
    loader._checks.shutdown(wait=True)
    assert len(loader._shards._verified) == 2 and max(here) // 64 in loader._shards._verified
    loader.close()


def test_damage_is_found_before_use(training_shards: MakeShards) -> None:
    folder = training_shards([16, 16])
    file = folder / "part-00001.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    loader = ShardLoader(folder, 4, 0)
    seen: list[int] = []
    with pytest.raises(UserError, match=r"part-00001.parquet.*dvc repro shards"):
        for batch in itertools.islice(loader, 8):
            seen += batch.label.tolist()
    loader.close()
    assert all(label < 16 for label in seen)


def test_missing_shard(training_shards: MakeShards, tmp_path: Path) -> None:
    folder = training_shards([16, 16])
    (folder / "part-00000.parquet").unlink()
    with pytest.raises(UserError, match=r"part-00000.parquet.*missing.*dvc repro shards"):
        ShardLoader(folder, 4, 0)
    with pytest.raises(UserError, match="dvc repro shards"):
        ShardLoader(tmp_path / "nowhere" / "shards", 4, 0)


def test_uneven_share(training_shards: MakeShards) -> None:
    with pytest.raises(ValueError, match="shared by 3"):
        ShardLoader(training_shards([16]), 8, 0, world_size=3)

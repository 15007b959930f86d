"""Training shards: the join of pictures, depth and embeddings in one global random order.

Two passes, so that the set may be larger than memory. The first reads every source shard once and deals its rows out to
their target shards, into one temporary file a source shard. The second reads each target's share of all those files
and puts it in order. All rows are read twice and written twice. Memory holds one source shard or one target shard up to
four times (as read, joined, sorted, on its way to the disk), and of the whole set only ids, labels and places.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from threedgp.config import ShardsConfig
from threedgp.data import schemas
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.runtime.atomic import atomic_path, require_free
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import progress


class JoinedShards:
    """The shards that are joined: `prepared`, `depth` and `embed` are cut alike.

    `depth` says which pictures remain: it holds the selected ones that have usable depth.

    Raises:
        UserError: the folders do not belong together, or no picture remains.
    """

    def __init__(self, prepared: ShardFolder, selected: ShardFolder, depth: ShardFolder, embed: ShardFolder) -> None:
        self.prepared, self.selected, self.depth, self.embed = prepared, selected, depth, embed
        self.embedding_dim: int = embed.meta["embedding_dim"]
        if not len(prepared) == len(depth) == len(embed):
            raise self._stranger(depth if len(prepared) != len(depth) else embed)
        if depth.manifest.rows + depth.meta["rejects"] != selected.manifest.rows:
            raise self._stranger(depth)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Number of the first row of each shard, and the number of all rows."""
        return np.cumsum([0, *(file.rows for file in self.depth.manifest.files)])

    def class_counts(self) -> list[int]:
        """Remaining pictures of each class."""
        remaining = pc.is_in(self.selected.column("id"), value_set=self.depth.column("id").combine_chunks())
        labels = self.selected.column("label").filter(remaining).to_numpy()
        return np.bincount(labels, minlength=len(self.prepared.meta["class_names"])).tolist()

    def read(self, shard: int) -> pa.Table:
        """A joined shard, columns as in the schema `training`.

        Raises:
            UserError: a picture lacks its embedding, or depth is there for a picture that is not.
        """
        depth = self.depth.read(shard)
        table = self._matching(self.prepared, shard, ["id", "label", "image"], depth)
        table = table.append_column("depth", depth["depth"])
        if self.embedding_dim:
            embeddings = self._matching(self.embed, shard, ["id", "embedding"], depth)
            table = table.append_column("embedding", embeddings["embedding"])
        return table

    def _matching(self, folder: ShardFolder, shard: int, columns: list[str], depth: pa.Table) -> pa.Table:
        table = folder.read(shard, columns)
        table = table.filter(pc.is_in(table["id"], value_set=depth["id"].combine_chunks()))
        if not table["id"].equals(depth["id"]):
            raise self._stranger(folder)
        return table

    def _stranger(self, folder: ShardFolder) -> UserError:
        return UserError(
            f"{folder.folder}: made from other pictures than the rest; "
            f"run `dvc repro --force --single-item {folder.folder.name}`, then `dvc repro`."
        )


def write_training_shards(joined: JoinedShards, folder: Path, settings: ShardsConfig, dataset: str) -> None:
    """Write the rows of `joined`, shuffled by `shards.seed`, to `folder`; finished shards are kept.

    The order depends on the ids and the seed alone, not on how the set was cut into shards before. `dataset` is its
    name, for the manifest.

    Raises:
        UserError: too little space.
    """
    total = int(joined.starts[-1])
    places = np.random.default_rng(settings.seed).permutation(total)  # row i of `joined` becomes row places[i]
    targets = -(-total // settings.rows_per_shard)
    dealt = folder.with_name("dealt")
    if not dealt.exists():
        require_free(folder, 2 * _bytes_of(joined))
    with progress("shards: deal", total) as bar:
        for shard in range(len(joined.depth)):
            rows = places[joined.starts[shard] : joined.starts[shard + 1]]
            if not _dealt_file(dealt, shard).exists():
                _deal(joined.read(shard), rows, targets, settings.rows_per_shard, _dealt_file(dealt, shard))
            bar.advance(len(rows))
    writer = ShardWriter(
        folder,
        schemas.training(joined.embedding_dim),
        "shards",
        {"dataset": dataset, "seed": settings.seed, **_about(joined)},
        row_group_rows=settings.row_group_rows,
    )
    with progress("shards: gather", total) as bar:
        for target in range(targets):
            if not writer.done(target):
                shares = (_share(_dealt_file(dealt, shard), target) for shard in range(len(joined.depth)))
                rows = pa.Table.from_batches(shares)
                writer.write(target, rows.take(np.argsort(rows["place"].to_numpy())).drop_columns("place"))
            bar.advance(writer.rows(target))
    writer.finish()


def _about(joined: JoinedShards) -> dict[str, object]:
    class_names = joined.prepared.meta["class_names"]
    inputs = (joined.prepared, joined.depth, joined.embed)
    return {
        "resolution": joined.prepared.meta["resolution"],
        "estimator": joined.depth.meta["estimator"],
        "embedder": joined.embed.meta["embedder"],
        "embedding_dim": joined.embedding_dim,
        "class_names": class_names,
        "class_counts": joined.class_counts(),
        "num_classes": len(class_names),
        "inputs": {folder.manifest.kind: folder.manifest.content_hash for folder in inputs},
    }


def _dealt_file(folder: Path, shard: int) -> Path:
    return folder / f"{shard:05d}.arrow"


def _deal(table: pa.Table, places: NDArray[np.int64], targets: int, rows_per_target: int, path: Path) -> None:
    """Write the rows of `table` to an Arrow file with one record batch for each target, and their places."""
    order = np.argsort(places)
    table = table.append_column("place", pa.array(places)).take(order).combine_chunks()
    cuts = np.searchsorted(places[order], np.arange(targets + 1) * rows_per_target)
    with atomic_path(path) as temporary, pa.ipc.new_file(str(temporary), table.schema) as file:
        for batch in _batches(table, cuts):
            file.write_batch(batch)


def _share(path: Path, target: int) -> pa.RecordBatch:
    """The rows for `target` in a dealt file, which is open no longer than that: there may be thousands of files."""
    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as batches:
        return batches.get_batch(target)


def _batches(table: pa.Table, cuts: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    empty = pa.RecordBatch.from_pylist([], table.schema)
    for start, stop in pairwise(cuts):
        yield table.slice(start, stop - start).to_batches()[0] if stop > start else empty


def _bytes_of(joined: JoinedShards) -> int:
    """About the size of the rows that remain."""
    rows = joined.depth.manifest.rows
    manifests = [folder.manifest for folder in (joined.prepared, joined.embed, joined.depth)]
    return sum(sum(file.bytes for file in each.files) * rows // max(each.rows, 1) for each in manifests)

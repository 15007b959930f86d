"""Training shards: images, depth and embeddings, joined and globally shuffled.

Two passes allow data sets larger than memory. The first reads each source shard once and distributes its rows to target
shards, in one temporary file per source shard. The second reads each target's part of all these files and sorts it. All
rows are read and written twice. Memory holds up to four copies of a shard (read, joined, sorted, written) and, of the
whole data set, ids, labels and places.
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
    """The shards to be joined; shard i of `prepared`, `depth` and `embed` holds the same images.

    The rows of `depth`, the selected images with usable depth, are the ones that remain.

    Raises:
        UserError: the folders do not belong together.
    """

    def __init__(self, prepared: ShardFolder, selected: ShardFolder, depth: ShardFolder, embed: ShardFolder) -> None:
        self.prepared, self.selected, self.depth, self.embed = prepared, selected, depth, embed
        self.embedding_dim: int = embed.meta["embedding_dim"]
        if not len(prepared) == len(depth) == len(embed):
            raise self._mismatch(depth if len(prepared) != len(depth) else embed)
        if depth.manifest.rows + depth.meta["rejects"] != selected.manifest.rows:
            raise self._mismatch(depth)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Number of the first row of each shard, and the number of all rows."""
        return np.cumsum([0, *(file.rows for file in self.depth.manifest.files)])

    def class_counts(self) -> list[int]:
        """Remaining images of each class."""
        remaining = pc.is_in(self.selected.column("id"), value_set=self.depth.column("id").combine_chunks())
        labels = self.selected.column("label").filter(remaining).to_numpy()
        return np.bincount(labels, minlength=len(self.prepared.meta["class_names"])).tolist()

    def read(self, shard: int) -> pa.Table:
        """A joined shard, with the columns of the schema `training`.

        Raises:
            UserError: an image or its embedding is missing.
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
            raise self._mismatch(folder)
        return table

    def _mismatch(self, folder: ShardFolder) -> UserError:
        return UserError(
            f"{folder.folder}: made from other images than the rest; "
            f"run `dvc repro --force --single-item {folder.folder.name}`, then `dvc repro`."
        )


def write_training_shards(joined: JoinedShards, folder: Path, settings: ShardsConfig, dataset: str) -> None:
    """Write the rows of `joined`, shuffled by `shards.seed`, to `folder`; finished shards are kept.

    The order depends only on the ids and the seed, not on the partition into source shards. The manifest states the
    name `dataset`.

    Raises:
        UserError: there is too little disk space.
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
    """Write the rows of `table` and their places to an Arrow file with one record batch per target."""
    order = np.argsort(places)
    table = table.append_column("place", pa.array(places)).take(order).combine_chunks()
    cuts = np.searchsorted(places[order], np.arange(targets + 1) * rows_per_target)
    with atomic_path(path) as temporary, pa.ipc.new_file(str(temporary), table.schema) as file:
        for batch in _batches(table, cuts):
            file.write_batch(batch)


def _share(path: Path, target: int) -> pa.RecordBatch:
    """The rows for `target` of one file, which is closed again, since there may be thousands."""
    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as batches:
        return batches.get_batch(target)


def _batches(table: pa.Table, cuts: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    empty = pa.RecordBatch.from_pylist([], table.schema)
    for start, stop in pairwise(cuts):
        yield table.slice(start, stop - start).to_batches()[0] if stop > start else empty


def _bytes_of(joined: JoinedShards) -> int:
    """Estimated size of the remaining rows."""
    rows = joined.depth.manifest.rows
    manifests = [folder.manifest for folder in (joined.prepared, joined.embed, joined.depth)]
    return sum(sum(file.bytes for file in each.files) * rows // max(each.rows, 1) for each in manifests)

"""Training shards: images, depth and embeddings, joined and globally shuffled.

Two passes allow data sets larger than memory. The first reads each source shard once and distributes its rows to target
shards, in one temporary file per source shard. The second reads each target's part of all these files and sorts it. All
rows are read and written twice. Memory holds up to four copies of a shard (read, joined, sorted, written) and, of the
whole data set, ids, labels and targets.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from threedgp.config import ShardsConfig
from threedgp.data import schemas
from threedgp.data.shards import STAGES, ShardFolder, ShardWriter
from threedgp.runtime.atomic import atomic_path, require_free
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import progress

FOV_PROBABILITIES = np.linspace(0.005, 0.995, 33)
"""Probabilities of the stored quantiles of the field of view; most wrong estimates lie outside of the outermost two."""


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

    def meta(self) -> dict[str, object]:
        """Metadata of the training shards; `class_counts` counts the remaining images."""
        class_names = self.prepared.meta["class_names"]
        remaining = pc.is_in(self.selected.column("id"), value_set=self.depth.column("id").combine_chunks())
        labels = self.selected.column("label").filter(remaining).to_numpy()
        inputs = (self.prepared, self.depth, self.embed)
        return {
            "resolution": self.prepared.meta["resolution"],
            "estimator": self.depth.meta["estimator"],
            "embedder": self.embed.meta["embedder"],
            "embedding_dim": self.embedding_dim,
            "class_names": class_names,
            "class_counts": np.bincount(labels, minlength=len(class_names)).tolist(),
            "num_classes": len(class_names),
            "inputs": {folder.manifest.kind: folder.manifest.content_hash for folder in inputs},
        }

    def fov_quantiles(self) -> list[list[float]] | None:
        """Quantiles of the estimated fields of view in degrees, at `FOV_PROBABILITIES`: of all remaining images, then
        of each class; a class without estimates has those of all. None if nothing was estimated."""
        rows = pa.concat_tables(self.depth.iterate(["id", "fov"]))
        fov = rows["fov"].to_numpy() if "fov" in rows.column_names else np.full(len(rows), np.nan)
        if np.isnan(fov).all():
            return None
        place = pc.index_in(rows["id"], value_set=self.selected.column("id").combine_chunks())
        labels = self.selected.column("label").take(place).to_numpy()[~np.isnan(fov)]
        fov = fov[~np.isnan(fov)]
        counts = np.bincount(labels, minlength=len(self.prepared.meta["class_names"]))
        classes = np.split(fov[np.argsort(labels, kind="stable")], np.cumsum(counts)[:-1])
        return [np.quantile(one if len(one) else fov, FOV_PROBABILITIES).round(2).tolist() for one in (fov, *classes)]

    def depth_range(self) -> dict[str, float] | None:
        """Medians over the remaining images: nearest and farthest depth in meters, and far / near. None without metric
        depth."""
        rows = pa.concat_tables(self.depth.iterate(["near", "far"]))
        if "near" not in rows.column_names or rows["near"].null_count == len(rows):
            return None
        near, far = (rows[name].drop_null().to_numpy() for name in ("near", "far"))
        return {
            name: float(np.median(values)) for name, values in (("near", near), ("far", far), ("ratio", far / near))
        }

    def estimated_bytes(self) -> int:
        """Estimated size of the remaining rows."""
        manifests = [folder.manifest for folder in (self.prepared, self.embed, self.depth)]
        bytes_per_row = sum(sum(file.bytes for file in each.files) / max(each.rows, 1) for each in manifests)
        return int(bytes_per_row * self.depth.manifest.rows)

    def read(self, shard: int) -> pa.Table:
        """A joined shard, with the columns of the schema `training`."""
        depth = self.depth.read(shard)
        table = self._matching(self.prepared, shard, ["id", "label", "image"], depth)
        table = table.append_column("depth", depth["depth"])
        if self.embedding_dim:
            table = table.append_column("embedding", self._matching(self.embed, shard, ["id", "embedding"], depth)[1])
        return table

    def _matching(self, folder: ShardFolder, shard: int, columns: list[str], depth: pa.Table) -> pa.Table:
        table = folder.read(shard, columns)
        table = table.filter(pc.is_in(table["id"], value_set=depth["id"].combine_chunks()))
        if not table["id"].equals(depth["id"]):
            raise self._mismatch(folder)
        return table

    def _mismatch(self, folder: ShardFolder) -> UserError:
        kind = folder.manifest.kind
        return UserError(
            f"{folder.folder}: made from other images than the rest; "
            f"run `dvc repro --force --single-item {STAGES.get(kind, kind)}`, then `dvc repro`."
        )


def write_training_shards(joined: JoinedShards, folder: Path, settings: ShardsConfig, dataset: str) -> None:
    """Write the rows of `joined`, shuffled by `shards.seed`, to `folder`; finished shards are kept.

    The order depends only on the ids and the seed, not on the partition into source shards. The manifest states the
    name `dataset`.
    """
    depth = joined.depth
    starts = np.cumsum([0, *(file.rows for file in depth.manifest.files)])
    total = depth.manifest.rows
    targets = np.random.default_rng(settings.seed).permutation(total)  # row i of `joined` becomes row targets[i]
    num_shards = -(-total // settings.rows_per_shard)
    scratch = folder.with_name("dealt")
    files = [scratch / f"{shard:05d}.arrow" for shard in range(len(depth))]
    if not scratch.exists():
        require_free(folder, 2 * joined.estimated_bytes())
    with progress("shards: deal", total) as bar:
        for shard, file in enumerate(files):
            rows = targets[starts[shard] : starts[shard + 1]]
            if not file.exists():
                _deal(joined.read(shard), rows, num_shards, settings.rows_per_shard, file)
            bar.advance(len(rows))
    writer = ShardWriter(
        folder,
        schemas.training(joined.embedding_dim),
        "shards",
        {"dataset": dataset, "seed": settings.seed, **joined.meta()},
        row_group_rows=settings.row_group_rows,
    )
    with progress("shards: gather", total) as bar:
        for shard in range(num_shards):
            if not writer.done(shard):
                rows = pa.Table.from_batches(_read_batch(file, shard) for file in files).combine_chunks()
                _write_sorted(rows, shard, writer)
            bar.advance(writer.rows(shard))
    writer.finish(fov_quantiles=joined.fov_quantiles(), depth_range=joined.depth_range())


def _deal(table: pa.Table, targets: NDArray[np.int64], num_shards: int, shard_rows: int, path: Path) -> None:
    """Write the rows of `table` and their `targets` to an Arrow file with one record batch per target shard."""
    order = np.argsort(targets)
    # Arrow cannot reorder more than 2 GiB of a column with offsets of 32 bits.
    table = table.cast(schemas.with_large_offsets(table.schema)).append_column("target", pa.array(targets)).take(order)
    (batch,) = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
    cuts = np.searchsorted(targets[order], np.arange(num_shards + 1) * shard_rows)
    with atomic_path(path) as temporary, pa.ipc.new_file(str(temporary), batch.schema) as file:
        for start, stop in pairwise(cuts):
            file.write_batch(batch.slice(start, stop - start))


def _write_sorted(rows: pa.Table, shard: int, writer: ShardWriter) -> None:
    order, size = np.argsort(rows["target"]), writer.row_group_rows
    try:
        # By row groups, since more than 2 GiB do not fit the types of the shards in one piece.
        writer.write(shard, pa.concat_tables(rows.take(order[i : i + size]) for i in range(0, len(order), size)))
    except pa.ArrowInvalid:
        raise UserError(f"shards.row_group_rows: {size} images take more than 2 GiB; lower it.") from None


def _read_batch(path: Path, index: int) -> pa.RecordBatch:
    """One batch of a file, which is closed again, since there may be thousands of files."""
    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as batches:
        return batches.get_batch(index)

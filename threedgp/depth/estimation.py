"""Depth maps of a whole prepared set, estimated from the original pixels inside the crop boxes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from threedgp.data import schemas
from threedgp.data.images import depth_to_bytes
from threedgp.data.prepare import crop_picture
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.data.shardwise import CHUNK_ROWS, ShardwiseJob
from threedgp.data.source import Source
from threedgp.depth.encoding import encode
from threedgp.depth.estimator import DepthEstimator, Rejected
from threedgp.runtime.errors import UserError
from threedgp.runtime.processes import SINGLE_PROCESS, ProcessGroup


class SelectedPictures:
    """The selected pictures of a prepared set, shard by shard, with what it takes to read their original pixels.

    Args:
        source: of the pictures.
        prepared, selected: shards of the stages `prepare` and `select`.
    """

    def __init__(self, source: Source, prepared: ShardFolder, selected: ShardFolder) -> None:
        self.source, self.prepared = source, prepared
        self.resolution: int = prepared.meta["resolution"]
        self.total = selected.manifest.rows
        self._entries, self._wanted = source.entries(), selected.column("id").combine_chunks()

    def rows(self, shard: int) -> pa.Table:
        """Entries of the selected pictures of a prepared shard, with a column `crop`.

        Raises:
            UserError: the inputs do not belong together.
        """
        crops = self.prepared.read(shard, ["id", "crop"])
        crops = crops.filter(pc.is_in(crops["id"], value_set=self._wanted))
        shard_rows = self.prepared.meta["shard_rows"]
        rows = self._entries.slice(shard * shard_rows, shard_rows)
        rows = rows.filter(pc.is_in(rows["id"], value_set=crops["id"].combine_chunks()))
        if not rows["id"].equals(crops["id"]):
            raise UserError(f"{self.prepared.folder}: does not belong to the raw pictures; run `dvc repro prepare`.")
        return rows.append_column("crop", crops["crop"])


def estimate_set(
    pictures: SelectedPictures,
    estimator: DepthEstimator,
    clip_percentile: float,
    folder: Path,
    workers: int,
    group: ProcessGroup = SINGLE_PROCESS,
    batch_size: int = CHUNK_ROWS,
) -> None:
    """Estimate depth of `pictures` into shards in `folder`, one for each prepared one; finished ones are kept.

    The processes of `group` share the shards, each with `workers` threads, which read and encode `batch_size` pictures
    at a time; a network works for one of them at a time.

    Raises:
        UserError: no picture at all has usable depth, or the inputs do not belong together.
    """
    meta = {"resolution": pictures.resolution, "estimator": estimator.name, "clip_percentile": clip_percentile}
    writer = ShardWriter(folder, schemas.DEPTH, "depth", meta)
    job = ShardwiseJob("depth", folder, writer, workers, group=group, chunk_rows=batch_size)
    work = partial(
        estimate_rows, pictures.source, estimator, resolution=pictures.resolution, clip_percentile=clip_percentile
    )
    total = pictures.total
    for rejected in job.run([partial(pictures.rows, shard) for shard in range(len(pictures.prepared))], total, work):
        if rejected == total:
            reason = job.rejects().column("reason")[0].as_py()
            raise UserError(f"depth.estimator: '{estimator.name}' gave no usable map for any picture: {reason}.")
    job.finish()


def estimate_rows(
    source: Source, estimator: DepthEstimator, rows: pa.Table, resolution: int, clip_percentile: float
) -> tuple[pa.Table, pa.Table]:
    """Read, crop, estimate and encode some pictures; `rows` are entries with a column `crop`.

    Returns:
        tables of the schemas DEPTH, in the order of `rows`, and REJECTS.
    """
    crops = rows["crop"].to_pylist()
    pictures = list(source.read(rows.drop_columns("crop")))
    whole = [(picture, crop) for picture, crop in zip(pictures, crops, strict=True) if picture.error is None]
    rejects = [{"id": picture.id, "reason": picture.error} for picture in pictures if picture.error]
    kept = []
    maps = estimator.estimate([crop_picture(picture, crop) for picture, crop in whole])
    for (picture, _), depth in zip(whole, maps, strict=True):
        if isinstance(depth, Rejected):
            encoded = depth
        else:
            encoded = encode(depth, resolution, clip_percentile) if depth.size else np.empty((0, 0), np.uint16)
        if isinstance(encoded, Rejected):
            rejects.append({"id": picture.id, "reason": encoded.reason})
        else:
            kept.append({"id": picture.id, "depth": depth_to_bytes(encoded)})
    return pa.Table.from_pylist(kept, schemas.DEPTH), pa.Table.from_pylist(rejects, schemas.REJECTS)

"""Depth maps of a whole prepared set, estimated from the original pixels inside the crop boxes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from threedgp.config import DepthConfig
from threedgp.data import schemas
from threedgp.data.images import depth_to_bytes
from threedgp.data.prepare import crop_picture
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.data.shardwise import ShardwiseJob
from threedgp.data.sources.base import Source
from threedgp.depth.base import DepthEstimator, Rejected
from threedgp.depth.encoding import encode
from threedgp.depth.registry import build_estimator
from threedgp.errors import UserError


def estimate_set(
    source: Source, prepared: ShardFolder, selected: ShardFolder, folder: Path, settings: DepthConfig, workers: int
) -> None:
    """Estimate depth of the selected pictures into shards in `folder`, sharded like `prepared`; finished ones are kept.

    Raises:
        UserError: no picture at all has usable depth, or the inputs do not belong together.
    """
    estimator = build_estimator(settings)
    resolution, shard_rows = prepared.meta["resolution"], prepared.meta["shard_rows"]
    entries, wanted = source.entries(), selected.column("id").combine_chunks()

    def rows_of(shard: int) -> pa.Table:
        """Entries and crop boxes of the selected pictures of a prepared shard."""
        crops = prepared.read(shard, ["id", "crop"])
        crops = crops.filter(pc.is_in(crops["id"], value_set=wanted))
        rows = entries.slice(shard * shard_rows, shard_rows)
        rows = rows.filter(pc.is_in(rows["id"], value_set=crops["id"].combine_chunks()))
        if not rows["id"].equals(crops["id"]):
            raise UserError(f"{prepared.folder}: does not belong to the raw pictures; run `dvc repro prepare`.")
        return rows.append_column("crop", crops["crop"])

    meta = {
        "resolution": resolution,
        "estimator": estimator.name,
        "clip_percentile": settings.clip_percentile,
    }
    job = ShardwiseJob("depth", folder, ShardWriter(folder, schemas.DEPTH, "depth", meta), workers)
    work = partial(estimate_rows, source, estimator, resolution=resolution, clip_percentile=settings.clip_percentile)
    total = selected.manifest.rows
    for rejected in job.run([partial(rows_of, shard) for shard in range(len(prepared))], total, work):
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

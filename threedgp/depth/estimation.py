"""Depth and fields of view of a data set, estimated from the original pixels inside the crops, stored in 16 bits."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from threedgp.data import schemas
from threedgp.data.images import depth_to_bytes
from threedgp.data.prepare import crop_picture, resize_depth
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.data.shardwise import CHUNK_ROWS, ShardwiseJob
from threedgp.data.source import Source
from threedgp.depth.estimator import DepthEstimator, Rejected
from threedgp.runtime.errors import UserError
from threedgp.runtime.processes import SINGLE_PROCESS, ProcessGroup

MAX_DEPTH = 65535


class Encoded(NamedTuple):
    """A depth map in 16 bits."""

    levels: NDArray[np.uint16]
    """`[R, R]`: 0 is the nearest depth, `MAX_DEPTH` the farthest one; `[0, 0]` = no depth."""
    near: float
    """Depth of level 0, in the unit of the map."""
    far: float
    """Depth of level `MAX_DEPTH`."""


class SelectedImages:
    """The images that stage `select` chose from those of `prepare`, shard by shard, and their original pixels."""

    def __init__(self, source: Source, prepared: ShardFolder, selected: ShardFolder) -> None:
        self.source, self.prepared = source, prepared
        self.resolution: int = prepared.meta["resolution"]
        self.total = selected.manifest.rows
        self._entries, self._selected_ids = source.entries(), selected.column("id").combine_chunks()

    def rows(self, shard: int) -> pa.Table:
        """Entries of the source for the selected images of a prepared shard, with a column `crop`."""
        crops = self.prepared.read(shard, ["id", "crop"])
        crops = crops.filter(pc.is_in(crops["id"], value_set=self._selected_ids))
        shard_rows = self.prepared.meta["shard_rows"]
        rows = self._entries.slice(shard * shard_rows, shard_rows)
        rows = rows.filter(pc.is_in(rows["id"], value_set=crops["id"].combine_chunks()))
        if not rows["id"].equals(crops["id"]):
            raise UserError(f"{self.prepared.folder}: does not belong to the raw images; run `dvc repro prepare`.")
        return rows.append_column("crop", crops["crop"])


def estimate_set(
    images: SelectedImages,
    estimator: DepthEstimator,
    clip_percentile: float,
    folder: Path,
    workers: int,
    group: ProcessGroup = SINGLE_PROCESS,
    batch_size: int = CHUNK_ROWS,
) -> None:
    """Write depth maps of `images` into shards in `folder`, one per prepared shard; finished shards are kept.

    The processes of `group` share the shards, each with `workers` threads that read and encode `batch_size` images at a
    time; a network processes one batch at a time.

    Raises:
        UserError: no image has usable depth, or the inputs do not belong together.
    """
    meta = {"resolution": images.resolution, "estimator": estimator.name, "clip_percentile": clip_percentile}
    writer = ShardWriter(folder, schemas.DEPTH, "depth", meta)
    job = ShardwiseJob("depth", writer, workers, group=group, chunk_rows=batch_size)
    work = partial(
        estimate_rows, images.source, estimator, resolution=images.resolution, clip_percentile=clip_percentile
    )
    for num_rejected in job.run(images.rows, len(images.prepared), images.total, work):
        if num_rejected == images.total:
            reason = job.rejects()["reason"][0].as_py()
            raise UserError(f"depth.estimator: '{estimator.name}' gave no usable map for any image: {reason}.")
    job.finish()


def estimate_rows(
    source: Source, estimator: DepthEstimator, rows: pa.Table, resolution: int, clip_percentile: float
) -> tuple[pa.Table, pa.Table]:
    """Read, crop, estimate and encode a batch of images; `rows` are entries with a column `crop`.

    Returns:
        tables of the schemas DEPTH, in the order of `rows`, and REJECTS.
    """
    kept, rejects, cropped = [], [], []
    for picture, crop in zip(source.read(rows.drop_columns("crop")), rows["crop"].to_pylist(), strict=True):
        if picture.error:
            rejects.append({"id": picture.id, "reason": picture.error})
        else:
            cropped.append(crop_picture(picture, crop))
    for picture, found in zip(cropped, estimator.estimate(cropped), strict=True):
        encoded = found if isinstance(found, Rejected) else encode(found.depth, resolution, clip_percentile)
        if isinstance(encoded, Rejected):
            rejects.append({"id": picture.id, "reason": encoded.reason})
        else:
            fov = found.fov if found.fov is not None and 0 < found.fov < 180 else None
            row = {"id": picture.id, "depth": depth_to_bytes(encoded.levels), "fov": fov}
            if estimator.metric and encoded.near > 0:
                row |= {"near": encoded.near, "far": encoded.far}
            kept.append(row)
    return pa.Table.from_pylist(kept, schemas.DEPTH), pa.Table.from_pylist(rejects, schemas.REJECTS)


def encode(depth: NDArray[np.float32], resolution: int, clip_percentile: float = 0.0) -> Encoded | Rejected:
    """Resize the square map `depth` and scale it by its minimum and maximum to 0..65535, larger = farther.

    Args:
        clip_percentile: values beyond this percentile at either end are clipped first. Otherwise sky or an outlier
            would compress all other depth into a few levels.

    Returns:
        levels `[resolution, resolution]`, none for the empty map, or the reason why the map is not usable.
    """
    if not depth.size:
        return Encoded(np.empty((0, 0), np.uint16), 0.0, 0.0)
    if not np.isfinite(depth).all():
        return Rejected("the depth map has values that are not finite")
    small = resize_depth(depth, resolution).astype(np.float64)
    low, high = np.percentile(small, [clip_percentile, 100 - clip_percentile])
    if not high - low > 1e-9 * max(abs(low), abs(high)):
        return Rejected("the depth map is constant")
    levels = np.rint((np.clip(small, low, high) - low) / (high - low) * MAX_DEPTH).astype(np.uint16)
    return Encoded(levels, float(low), float(high))

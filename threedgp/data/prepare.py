"""Square images at the resolution of the data set.

An image, its true depth and all estimated depth share one crop.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from threedgp.config import PrepareConfig
from threedgp.data import schemas
from threedgp.data.images import Encoding, encode_image, resize_map
from threedgp.data.shards import ShardWriter, read_manifest
from threedgp.data.shardwise import ShardwiseJob
from threedgp.data.source import RawPicture, Source
from threedgp.runtime.errors import UserError
from threedgp.runtime.processes import SINGLE_PROCESS, ProcessGroup

Crop = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels of the original (upright) image."""

REDUCING_GAP = 3.0
"""Minimum reduction factor that is left to the Lanczos filter."""
MAX_REASONS = 8
"""Reasons that are printed."""
MAX_ENLARGEMENT = 8
"""Images that would need a larger enlargement are rejected."""


def center_crop(height: int, width: int) -> Crop:
    """The largest central square."""
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def square(picture: RawPicture, resolution: int) -> tuple[NDArray[np.uint8], Crop]:
    """Center crop of `picture.rgb`, resized to `[resolution, resolution, 3]` by Lanczos, and the crop.

    Pillow's filter is antialiased, OpenCV's is not. Images more than 2 * REDUCING_GAP times too large are first reduced
    by area averaging, which takes less than half of the time; photographs differ by at most 3 levels (54 dB).
    """
    left, top, right, bottom = crop = center_crop(*picture.rgb.shape[:2])
    cut = Image.fromarray(picture.rgb[top:bottom, left:right])  # resize(box=...) would look beyond the box
    small = cut.resize((resolution, resolution), Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)
    return np.asarray(small), crop


def crop_picture(picture: RawPicture, crop: Crop) -> RawPicture:
    """`picture` and its depth, cropped to `crop`."""
    left, top, right, bottom = crop
    depth = None if picture.depth is None else picture.depth[top:bottom, left:right]
    return replace(picture, rgb=picture.rgb[top:bottom, left:right], depth=depth)


def resize_depth(depth: NDArray[np.float32], resolution: int) -> NDArray[np.float32]:
    """Resize a square map to `[resolution, resolution]`."""
    return resize_map(depth, resolution, resolution)


def square_depth(depth: NDArray[np.float32], resolution: int) -> NDArray[np.float32]:
    """Crop and resize the map `[H, W]` of an uncropped image, as `square` does with the image."""
    left, top, right, bottom = center_crop(*depth.shape)
    return resize_depth(depth[top:bottom, left:right], resolution)


def prepare_set(
    source: Source,
    folder: Path,
    settings: PrepareConfig,
    resolution: int,
    workers: int,
    group: ProcessGroup = SINGLE_PROCESS,
    max_reject_fraction: float = 1.0,
) -> None:
    """Write all images of `source` into shards in `folder`; finished shards are kept.

    Shard i holds the usable images of entries i * shard_rows to (i + 1) * shard_rows. The processes of `group` share
    the shards, each with `workers` threads.

    Raises:
        UserError: more than `max_reject_fraction` of the images, or all of them, cannot be used. Finished shards are
            kept and counted by the next call.
    """
    entries = source.entries()
    meta = {
        "source": source.name,
        "resolution": resolution,
        "class_names": source.class_names,
        "shard_rows": settings.shard_rows,
    }
    writer = ShardWriter(folder, schemas.PREPARED, "prepared", meta)
    job = ShardwiseJob("prepare", writer, workers, group=group)
    work = partial(prepare_rows, source, resolution=resolution, encoding=settings.encoding)
    size, total = settings.shard_rows, entries.num_rows
    for rejected in job.run(lambda shard: entries.slice(shard * size, size), -(-total // size), total, work):
        if rejected > max_reject_fraction * total or rejected == total:
            raise _too_many(job.rejects(), total, max_reject_fraction)
    job.finish()


def describe_rejects(folder: Path) -> list[str]:
    """Lines about the images that `prepare_set` left out of `folder`, by reason; none if there are none."""
    rejects = pq.read_table(folder / "rejects.parquet")
    if not rejects.num_rows:
        return []
    names, reasons = rejects["id"].to_pylist(), rejects["reason"].to_pylist()
    total = read_manifest(folder).rows + rejects.num_rows
    lines = [f"{rejects.num_rows} of {total} images were left out (prepared/rejects.parquet lists them):"]
    counts = Counter(reasons).most_common()
    for reason, count in counts[:MAX_REASONS]:
        lines.append(f"  {count}: {reason} ({'first ' if count > 1 else ''}{names[reasons.index(reason)]})")
    others = sum(count for _, count in counts[MAX_REASONS:])
    return lines + ([f"  {others}: other reasons"] if others else [])


def _too_many(rejects: pa.Table, total: int, allowed: float) -> UserError:
    reason, count = Counter(rejects.column("reason").to_pylist()).most_common(1)[0]
    example = rejects.column("id")[rejects.column("reason").to_pylist().index(reason)].as_py()
    return UserError(
        f"{rejects.num_rows} of {total} images cannot be used, more than machine.max_reject_fraction ({allowed:g}) "
        f"allows; the most frequent reason ({count} times, first {example}): {reason}. "
        "Is dataset.path the right folder?"
    )


def prepare_rows(source: Source, entries: pa.Table, resolution: int, encoding: Encoding) -> tuple[pa.Table, pa.Table]:
    """Read, crop, resize and encode a batch of images.

    Returns:
        tables of the schemas PREPARED and REJECTS, each in the order of `entries`.
    """
    kept, rejects = [], []
    for picture in source.read(entries):
        reason = picture.error or too_small(picture, resolution)
        if reason:
            rejects.append({"id": picture.id, "reason": reason})
            continue
        image, crop = square(picture, resolution)
        encoded = {"bytes": encode_image(image, encoding)}
        kept.append({"id": picture.id, "label": picture.label, "image": encoded, "crop": crop})
    return pa.Table.from_pylist(kept, schemas.PREPARED), pa.Table.from_pylist(rejects, schemas.REJECTS)


def too_small(picture: RawPicture, resolution: int) -> str | None:
    """Why `picture` would have to be enlarged too much; None if it is large enough."""
    height, width = picture.rgb.shape[:2]
    if min(height, width) * MAX_ENLARGEMENT >= resolution:
        return None
    return f"{width}x{height} pixels are too few for {resolution}x{resolution}"

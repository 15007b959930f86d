"""From raw pictures to square ones at the resolution of the data set.

One crop serves a picture, its true depth and every map that is estimated from it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from threedgp.config import PrepareConfig
from threedgp.data import schemas
from threedgp.data.images import Encoding, encode_image
from threedgp.data.shards import ShardWriter
from threedgp.data.shardwise import ShardwiseJob
from threedgp.data.source import RawPicture, Source
from threedgp.runtime.errors import UserError
from threedgp.runtime.processes import ALONE, Team

Crop = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels of the original (upright) picture."""

REDUCING_GAP = 3.0
"""Lanczos still reduces by this much at least."""
LARGEST_ENLARGEMENT = 8
"""A picture that would have to grow more than this shows nothing."""


def centre_crop(height: int, width: int) -> Crop:
    """The largest square in the middle."""
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def square(picture: RawPicture, resolution: int) -> tuple[NDArray[np.uint8], Crop]:
    """Centre crop of `picture.rgb`, brought to `[resolution, resolution, 3]` by Lanczos, and the crop.

    Pillow's filter widens with the reduction, so it does not alias; OpenCV's Lanczos would. What is more than
    2 * REDUCING_GAP times too large is reduced by area averages first: on photographs the outcome stays the same
    within 3 levels (54 dB), in less than half of the time.
    """
    left, top, right, bottom = crop = centre_crop(*picture.rgb.shape[:2])
    cut = Image.fromarray(picture.rgb[top:bottom, left:right])  # resize(box=...) would look beyond the box
    small = cut.resize((resolution, resolution), Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)
    return np.asarray(small), crop


def crop_picture(picture: RawPicture, crop: Crop) -> RawPicture:
    """`picture` and its depth, cut to `crop` in original pixels."""
    left, top, right, bottom = crop
    depth = None if picture.depth is None else picture.depth[top:bottom, left:right]
    return replace(picture, rgb=picture.rgb[top:bottom, left:right], depth=depth)


def resize_depth(depth: NDArray[np.float32], resolution: int) -> NDArray[np.float32]:
    """A square map at `[resolution, resolution]`: area averages, which keep its range, or bilinear to enlarge it."""
    shrinks = len(depth) >= resolution
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(depth, np.float32), (resolution, resolution), interpolation=method)


def square_depth(depth: NDArray[np.float32], resolution: int) -> NDArray[np.float32]:
    """The map `[H, W]` of an uncropped picture, cropped and resized as `square` does with the picture."""
    left, top, right, bottom = centre_crop(*depth.shape)
    return resize_depth(depth[top:bottom, left:right], resolution)


def prepare_set(
    source: Source,
    folder: Path,
    settings: PrepareConfig,
    resolution: int,
    workers: int,
    team: Team = ALONE,
    max_reject_fraction: float = 1.0,
) -> None:
    """Prepare all pictures of `source` into shards in `folder`; finished shards are kept.

    Shard i holds what is usable of the entries from i * shard_rows on. The processes of `team` share the shards, each
    with `workers` threads.

    Raises:
        UserError: more than `max_reject_fraction` of the pictures, or all of them, cannot be used. What is done stays,
            and counts when the same is called again.
    """
    entries = source.entries()
    meta = {
        "source": source.name,
        "resolution": resolution,
        "class_names": source.class_names,
        "shard_rows": settings.shard_rows,
    }
    job = ShardwiseJob("prepare", folder, ShardWriter(folder, schemas.PREPARED, "prepared", meta), workers, team=team)
    starts = range(0, entries.num_rows, settings.shard_rows)
    inputs = [partial(entries.slice, start, settings.shard_rows) for start in starts]
    work = partial(prepare_rows, source, resolution=resolution, encoding=settings.encoding)
    for rejected in job.run(inputs, entries.num_rows, work):
        if rejected > max_reject_fraction * entries.num_rows or rejected == entries.num_rows:
            raise _too_many(job.rejects(), entries.num_rows, max_reject_fraction)
    job.finish()


def _too_many(rejects: pa.Table, total: int, allowed: float) -> UserError:
    reason, count = Counter(rejects.column("reason").to_pylist()).most_common(1)[0]
    example = rejects.column("id")[rejects.column("reason").to_pylist().index(reason)].as_py()
    return UserError(
        f"{rejects.num_rows} of {total} pictures cannot be used, more than machine.max_reject_fraction ({allowed:g}) "
        f"allows; the most frequent reason ({count} times, first {example}): {reason}. "
        "Is dataset.path the right folder?"
    )


def prepare_rows(source: Source, entries: pa.Table, resolution: int, encoding: Encoding) -> tuple[pa.Table, pa.Table]:
    """Read, crop, resize and encode some pictures.

    Returns:
        tables of the schemas PREPARED and REJECTS, each in the order of `entries`.
    """
    kept, rejects = [], []
    for picture in source.read(entries):
        reason = picture.error or _too_small(picture, resolution)
        if reason:
            rejects.append({"id": picture.id, "reason": reason})
            continue
        image, crop = square(picture, resolution)
        encoded = {"bytes": encode_image(image, encoding)}
        kept.append({"id": picture.id, "label": picture.label, "image": encoded, "crop": crop})
    return pa.Table.from_pylist(kept, schemas.PREPARED), pa.Table.from_pylist(rejects, schemas.REJECTS)


def _too_small(picture: RawPicture, resolution: int) -> str | None:
    height, width = picture.rgb.shape[:2]
    if min(height, width) * LARGEST_ENLARGEMENT >= resolution:
        return None
    return f"{width}x{height} pixels are too few to show anything at {resolution}x{resolution}"

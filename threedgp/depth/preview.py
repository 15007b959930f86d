"""A contact sheet of images beside their estimated depth."""

from __future__ import annotations

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from threedgp.data.images import depth_from_bytes
from threedgp.data.prepare import crop_picture
from threedgp.data.source import RawPicture
from threedgp.depth.estimation import SelectedImages, estimate_rows
from threedgp.depth.estimator import DepthEstimator
from threedgp.runtime.progress import progress

PAIRS = 4
"""Images, each beside its depth, in a row."""
GAP = 4
"""Pixels around each pair."""
MIN_TILE = 128
"""Smaller images are enlarged to this size."""
NO_DEPTH_COLOR = (160, 32, 32)


def preview(
    images: SelectedImages, estimator: DepthEstimator, clip_percentile: float, rows: int
) -> tuple[NDArray[np.uint8], dict[str, str]]:
    """Images beside their depth as the stage would store it: near is dark, far is bright, no depth is red.

    Returns:
        an RGB image `[H, W, 3]` with `rows` rows of `PAIRS` images, spread evenly over the selected ones, and the
            reasons why images have no depth, by id.
    """
    chosen = _choose(images, rows * PAIRS)
    tiles: list[NDArray[np.uint8]] = []
    reasons: dict[str, str] = {}
    with progress("depth preview", len(chosen)) as bar:
        for start in range(0, len(chosen), PAIRS):
            part = chosen.slice(start, PAIRS)
            table, rejects = estimate_rows(images.source, estimator, part, images.resolution, clip_percentile)
            maps = dict(zip(table["id"].to_pylist(), table["depth"].to_pylist(), strict=True))
            reasons |= dict(zip(rejects["id"].to_pylist(), rejects["reason"].to_pylist(), strict=True))
            pictures = images.source.read(part.drop_columns("crop"))
            for picture, crop in zip(pictures, part["crop"].to_pylist(), strict=True):
                cropped = picture if picture.error else crop_picture(picture, crop)
                tiles.append(_pair(cropped, maps.get(picture.id), images.resolution))
            bar.advance(len(part))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % PAIRS)
    return np.concatenate([np.concatenate(tiles[i : i + PAIRS], axis=1) for i in range(0, len(tiles), PAIRS)]), reasons


def _choose(images: SelectedImages, count: int) -> pa.Table:
    """At most `count` images of a few shards, since reading a shard verifies all of its bytes."""
    num_shards = len(images.prepared)
    shards = _spread(num_shards, max(count // PAIRS, 1))
    share = -(-count // len(shards))
    tables, left = [], count
    # The other shards follow in case these have too few selected images.
    for shard in [*shards, *sorted(set(range(num_shards)) - set(shards))]:
        table = images.rows(shard)
        tables.append(table.take(pa.array(_spread(len(table), min(share, left)), pa.int64())))
        left -= len(tables[-1])
        if not left:
            break
    return pa.concat_tables(tables)


def _spread(total: int, count: int) -> list[int]:
    """At most `count` different numbers below `total`, ascending and evenly spread."""
    return [index * total // min(count, total) for index in range(min(count, total))]


def _pair(picture: RawPicture, depth: bytes | None, resolution: int) -> NDArray[np.uint8]:
    """An image and its depth side by side, with a gap around."""
    side = max(resolution, MIN_TILE)
    left = right = np.full((side, side, 3), NO_DEPTH_COLOR, np.uint8)
    if picture.rgb is not None:
        method = cv2.INTER_AREA if side < len(picture.rgb) else cv2.INTER_LINEAR
        left = cv2.resize(picture.rgb, (side, side), interpolation=method)
    if depth:
        levels = (depth_from_bytes(depth, resolution) >> 8).astype(np.uint8)
        levels = cv2.resize(levels, (side, side), interpolation=cv2.INTER_NEAREST)
        right = cv2.cvtColor(levels, cv2.COLOR_GRAY2RGB)
    return np.pad(np.concatenate([left, right], axis=1), ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)

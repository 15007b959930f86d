"""A look at what an estimator makes of a data set, before or after the stage ran."""

from __future__ import annotations

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from threedgp.data.images import depth_from_bytes
from threedgp.data.prepare import crop_picture
from threedgp.depth.estimation import SelectedPictures, estimate_rows
from threedgp.depth.estimator import DepthEstimator
from threedgp.runtime.progress import progress

PAIRS = 4
"""Photographs, each beside its depth, in a row."""
GAP = 4
"""Pixels around each pair."""
MIN_TILE = 128
"""Smaller pictures are enlarged to at least this side."""
NO_DEPTH_COLOR = (160, 32, 32)


def preview(
    pictures: SelectedPictures, estimator: DepthEstimator, clip_percentile: float, rows: int
) -> tuple[NDArray[np.uint8], dict[str, str]]:
    """Photographs beside their depth as the stage would store it: near is dark, far is bright, none is red.

    Args:
        rows: of `PAIRS` pictures, spread evenly over the selected ones.

    Returns:
        an RGB picture `[H, W, 3]`, and the reasons of those without depth by their ids.
    """
    chosen = _choose(pictures, rows * PAIRS)
    tiles, reasons = [], {}
    with progress("depth preview", len(chosen)) as bar:
        # A few at a time, so that the progress is seen.
        for start in range(0, len(chosen), PAIRS):
            part = chosen.slice(start, PAIRS)
            found, rejects = estimate_rows(pictures.source, estimator, part, pictures.resolution, clip_percentile)
            maps = dict(zip(found["id"].to_pylist(), found["depth"].to_pylist(), strict=True))
            reasons |= dict(zip(rejects["id"].to_pylist(), rejects["reason"].to_pylist(), strict=True))
            tiles += [_pair(picture, maps.get(name), pictures.resolution) for name, picture in _read(pictures, part)]
            bar.advance(len(part))
    return _sheet(tiles), reasons


def _choose(pictures: SelectedPictures, count: int) -> pa.Table:
    """At most `count` pictures of as few shards as show the variety: reading one checks all of its bytes."""
    shards = _spread(len(pictures.prepared), max(count // PAIRS, 1))
    share = -(-count // len(shards))
    others = [
        shard for shard in range(len(pictures.prepared)) if shard not in shards
    ]  # where selection left too little
    tables, left = [], count
    for shard in shards + others:
        table = pictures.rows(shard)
        tables.append(table.take(pa.array(_spread(len(table), min(share, left)), pa.int64())))
        left -= len(tables[-1])
        if not left:
            break
    return pa.concat_tables(tables)


def _spread(total: int, count: int) -> list[int]:
    """At most `count` different numbers below `total`, ascending and evenly spread."""
    return [index * total // min(count, total) for index in range(min(count, total))]


def _read(pictures: SelectedPictures, rows: pa.Table) -> list[tuple[str, NDArray[np.uint8] | None]]:
    """Ids and the original pixels inside the crop, where there are any."""
    read = pictures.source.read(rows.drop_columns("crop"))
    crops = rows["crop"].to_pylist()
    return [(one.id, None if one.error else crop_picture(one, crop).rgb) for one, crop in zip(read, crops, strict=True)]


def _pair(picture: NDArray[np.uint8] | None, depth: bytes | None, resolution: int) -> NDArray[np.uint8]:
    """A photograph and its depth side by side, with a gap around."""
    side = max(resolution, MIN_TILE)
    left = right = np.full((side, side, 3), NO_DEPTH_COLOR, np.uint8)
    if picture is not None:
        method = cv2.INTER_AREA if side < len(picture) else cv2.INTER_LINEAR
        left = cv2.resize(picture, (side, side), interpolation=method)
    if depth:
        levels = (depth_from_bytes(depth, resolution) >> 8).astype(np.uint8)
        levels = cv2.resize(levels, (side, side), interpolation=cv2.INTER_NEAREST)
        right = np.repeat(levels[..., None], 3, axis=2)
    return np.pad(np.concatenate([left, right], axis=1), ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)


def _sheet(pairs: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    blank = np.full_like(pairs[0], 255)
    pairs = [*pairs, *[blank] * (-len(pairs) % PAIRS)]
    return np.concatenate([np.concatenate(pairs[at : at + PAIRS], axis=1) for at in range(0, len(pairs), PAIRS)])

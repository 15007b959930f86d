"""The real set: two halves of it as streams, their truth where the source knows it, and controls made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from threedgp.camera.geometry import FOV
from threedgp.camera.normals import depth_normals
from threedgp.data.images import decode_images
from threedgp.data.prepare import square, square_depth
from threedgp.data.shards import ShardFolder
from threedgp.data.source import RawPicture, Source
from threedgp.metrics.streams import Stream, chunks
from threedgp.runtime.atomic import atomic_path
from threedgp.runtime.errors import UserError

LEAST_PICTURES = 8
"""Precision and recall need four in each half."""
BATCH = 256
"""Pictures whose truth is read, or whose background is rendered, at a time."""


def rows_by_shard(shards: ShardFolder, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Rows of the whole set, ascending, as rows of each shard that holds some of them."""
    starts = np.cumsum([0, *(file.rows for file in shards.manifest.files)])
    for index, inside in enumerate(np.split(rows, np.searchsorted(rows, starts[1:-1]))):
        if len(inside):
            yield index, inside - starts[index]


def take_rows(shards: ShardFolder, rows: np.ndarray, columns: list[str]) -> Iterator[pa.Table]:
    """The given rows of the whole set, ascending, as a table for each shard that holds some of them."""
    for index, inside in rows_by_shard(shards, rows):
        yield shards.read(index, columns).take(inside)


def blurred(pictures: np.ndarray) -> np.ndarray:
    """uint8 `[n, 3, R, R]` after a Gaussian blur of 1 pixel at 32x32, and as much of the picture at any R."""
    sigma = pictures.shape[-1] / 32
    result = [cv2.GaussianBlur(picture.transpose(1, 2, 0), (0, 0), sigma) for picture in pictures]
    return np.stack(result).transpose(0, 3, 1, 2)


def require_pictures(prepared: ShardFolder, count: int = LEAST_PICTURES) -> None:
    """Make sure that there is something to compare with.

    Raises:
        UserError: there are fewer than `count` pictures.
    """
    rows = prepared.manifest.rows
    if rows < count:
        raise UserError(
            f"{prepared.folder}: {rows} pictures are too few to compare, at least {count} are needed; "
            "give dataset.path a folder with more."
        )


def draw_sets(rows: int, first: int, second: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of two disjoint random sets of `rows` pictures, each ascending.

    For the same seed a smaller first set is part of a larger one.
    """
    order = np.random.default_rng(seed).permutation(rows)
    return np.sort(order[:first]), np.sort(order[first : first + second])


@dataclass(frozen=True)
class RealSet:
    """Some rows of the prepared pictures."""

    prepared: ShardFolder
    source: Source
    raw: Path
    """Folder of stage `download`."""
    rows: np.ndarray
    """Ascending."""

    @property
    def resolution(self) -> int:
        """R, of pictures and depth maps."""
        return int(self.prepared.meta["resolution"])

    def pictures(self) -> Stream:
        """As stage `prepare` left them, uint8 batches `[n, 3, R, R]`."""

        def part(index: int, inside: np.ndarray) -> np.ndarray:
            images = self.prepared.read(index, ["image"])["image"].take(inside)
            return decode_images(images).transpose(0, 3, 1, 2)

        found = rows_by_shard(self.prepared, self.rows)
        return Stream(len(self.rows), [partial(part, index, inside) for index, inside in found])

    def ids(self) -> list[str]:
        """Of the rows, in their order."""
        return pa.concat_tables(take_rows(self.prepared, self.rows, ["id"]))["id"].to_pylist()

    def _entries(self) -> pa.Table:
        entries = self.source.entries()
        return entries.take(pc.index_in(pa.array(self.ids()), value_set=entries["id"].combine_chunks()))

    def knows_truth(self) -> bool:
        """Whether the source knows true cameras, and with them true depth: a sidecar map is an estimate."""
        first = next(iter(self.source.read(self._entries().slice(0, 1))))
        return first.cameras is not None and first.depth is not None

    def true_cameras(self) -> np.ndarray:
        """`[N, 8]`."""
        return np.stack([picture.cameras for picture in self.source.read(self._entries())])

    def true_depth(self) -> Stream:
        """Cropped and resized like the pictures, float32 batches `[n, 1, R, R]` in scene units."""
        return self._truth(lambda picture: square_depth(picture.depth, self.resolution)[None])

    def true_normals(self) -> Stream:
        """Of the surfaces that true depth shows, float32 batches `[n, 3, R, R]` in camera space."""

        def normals(picture: RawPicture) -> np.ndarray:
            depth = square_depth(picture.depth, self.resolution)[None]
            return depth_normals(depth, picture.cameras[None, FOV])[0].transpose(2, 0, 1).astype(np.float32)

        return self._truth(normals)

    def _truth(self, read: Callable[[RawPicture], np.ndarray]) -> Stream:
        entries = self._entries()

        def part(start: int) -> np.ndarray:
            return np.stack([read(picture) for picture in self.source.read(entries.slice(start, BATCH))])

        return Stream(len(self.rows), [partial(part, start) for start in range(0, len(entries), BATCH)])

    def backgrounds(self, folder: Path) -> Stream:
        """The pictures without their objects (source `procedural` only), kept in files of `folder` once made."""
        ids = self.ids()

        def part(start: int, end: int) -> np.ndarray:
            kept = folder / f"{start:08d}.npy"
            if not kept.is_file():
                raw = self.source.read_backgrounds(ids[start:end])
                pictures = np.stack([square(picture, self.resolution)[0] for picture in raw]).transpose(0, 3, 1, 2)
                with atomic_path(kept) as temporary:
                    np.save(temporary, pictures)
            return np.load(kept)

        return Stream(len(ids), [partial(part, *piece) for piece in chunks(len(ids), BATCH)])

"""The real set: two halves of it as streams, their truth where the source knows it, and controls made of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from threedgp.atomic import atomic_path
from threedgp.data.images import decode_image
from threedgp.data.prepare import square, square_depth
from threedgp.data.shards import ShardFolder
from threedgp.data.sources.base import Source
from threedgp.data.sources.procedural import read_backgrounds
from threedgp.errors import UserError
from threedgp.metrics.streams import Stream

LEAST_PICTURES = 4
TRUTH_BATCH = 256
"""Pictures whose truth is read at a time."""


def take_rows(shards: ShardFolder, rows: np.ndarray, columns: list[str]) -> Iterator[pa.Table]:
    """The given rows of the whole set, ascending, as a table for each shard that holds some of them."""
    starts = np.cumsum([0, *(file.rows for file in shards.manifest.files)])
    for index, inside in enumerate(np.split(rows, np.searchsorted(rows, starts[1:-1]))):
        if len(inside):
            yield shards.read(index, columns).take(inside - starts[index])


def blurred(pictures: np.ndarray) -> np.ndarray:
    """uint8 `[n, 3, R, R]` after a Gaussian blur of 1 pixel at 32x32, and as much of the picture at any R."""
    sigma = pictures.shape[-1] / 32
    result = [cv2.GaussianBlur(picture.transpose(1, 2, 0), (0, 0), sigma) for picture in pictures]
    return np.stack(result).transpose(0, 3, 1, 2)


def split_halves(prepared: ShardFolder, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of two disjoint random sets of the same size, at most `count`, each ascending.

    Raises:
        UserError: there are too few pictures to compare.
    """
    rows = prepared.manifest.rows
    if rows < LEAST_PICTURES:
        raise UserError(
            f"{prepared.folder}: {rows} pictures are too few to compare, at least {LEAST_PICTURES} are needed; "
            "give dataset.path a folder with more."
        )
    count = min(count, rows // 2)
    order = np.random.default_rng(seed).permutation(rows)
    return np.sort(order[:count]), np.sort(order[count : 2 * count])


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

        def batches() -> Iterator[np.ndarray]:
            for table in take_rows(self.prepared, self.rows, ["image"]):
                pictures = np.stack([decode_image(image.as_py()) for image in table["image"]])
                yield pictures.transpose(0, 3, 1, 2)

        return Stream(len(self.rows), batches)

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
        entries, resolution = self._entries(), self.resolution

        def batches() -> Iterator[np.ndarray]:
            for start in range(0, len(entries), TRUTH_BATCH):
                pictures = self.source.read(entries.slice(start, TRUTH_BATCH))
                yield np.stack([square_depth(picture.depth, resolution) for picture in pictures])[:, None]

        return Stream(len(self.rows), batches)

    def backgrounds(self, kept: Path) -> Stream:
        """The pictures without their objects (source `procedural` only), kept in the file `kept` once made."""
        if not kept.is_file():
            pictures = [square(picture, self.resolution)[0] for picture in read_backgrounds(self.raw, self.ids())]
            with atomic_path(kept) as temporary:
                np.save(temporary, np.stack(pictures).transpose(0, 3, 1, 2))
        return Stream(len(self.rows), lambda: [np.load(kept, mmap_mode="r")])

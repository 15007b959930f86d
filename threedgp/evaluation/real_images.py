"""Some images of the real set as streams, their ground truth where the source knows it, and controls made from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from threedgp.camera.geometry import FOV
from threedgp.camera.normals import depth_normals
from threedgp.data.prepare import square, square_depth
from threedgp.data.shards import ShardFolder
from threedgp.data.source import RawPicture, Source
from threedgp.evaluation.streams import Stream, chunks, stored, stored_images
from threedgp.runtime.atomic import atomic_path
from threedgp.runtime.progress import progress

BATCH = 256
"""Images per batch of ground truth and of backgrounds."""


def blurred(images: np.ndarray) -> np.ndarray:
    """Images uint8 `[n, 3, R, R]` after a Gaussian blur with a standard deviation of R / 32 pixels."""
    sigma = images.shape[-1] / 32
    result = [cv2.GaussianBlur(image.transpose(1, 2, 0), (0, 0), sigma) for image in images]
    return np.stack(result).transpose(0, 3, 1, 2)


def draw_sets(num_rows: int, first: int, second: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint random sets of row numbers, each ascending.

    For the same seed a smaller first set is a subset of a larger one.
    """
    order = np.random.default_rng(seed).permutation(num_rows)
    return np.sort(order[:first]), np.sort(order[first : first + second])


@dataclass(frozen=True)
class RealImages:
    """Some rows of the prepared images."""

    prepared: ShardFolder
    source: Source
    rows: np.ndarray
    """Ascending."""

    @property
    def resolution(self) -> int:
        """R, of images and depth maps."""
        return int(self.prepared.meta["resolution"])

    def images(self) -> Stream:
        """Prepared images, uint8 batches `[n, 3, R, R]`."""
        return stored_images(self.prepared, self.rows)

    def ids(self) -> list[str]:
        """Ids of the rows."""
        return stored(self.prepared, self.rows, "id", pa.ChunkedArray.to_numpy).whole().tolist()

    def _entries(self) -> pa.Table:
        entries = self.source.entries()
        return entries.take(pc.index_in(pa.array(self.ids()), value_set=entries["id"].combine_chunks()))

    def has_truth(self) -> bool:
        """Whether the source knows true cameras, and with them true depth: a sidecar map is an estimate."""
        first = next(iter(self.source.read(self._entries().slice(0, 1))))
        return first.cameras is not None and first.depth is not None

    def cameras(self) -> np.ndarray:
        """True cameras `[N, 8]`."""
        return np.stack([picture.cameras for picture in self.source.read(self._entries())])

    def depth(self) -> Stream:
        """True depth, cropped and resized like the images: float32 batches `[n, 1, R, R]` in scene units."""
        return self._truth(lambda picture: square_depth(picture.depth, self.resolution)[None])

    def normals(self) -> Stream:
        """Normals of the true depth, float32 batches `[n, 3, R, R]` in camera space."""

        def normals(picture: RawPicture) -> np.ndarray:
            depth = square_depth(picture.depth, self.resolution)[None]
            return depth_normals(depth, picture.cameras[None, FOV])[0].transpose(2, 0, 1).astype(np.float32)

        return self._truth(normals)

    def _truth(self, read: Callable[[RawPicture], np.ndarray]) -> Stream:
        entries = self._entries()

        def part(start: int) -> np.ndarray:
            return np.stack([read(picture) for picture in self.source.read(entries.slice(start, BATCH))])

        return Stream(len(self.rows), [partial(part, start) for start in range(0, len(entries), BATCH)])

    def render_backgrounds(self, folder: Path, workers: int) -> None:
        """Write the images without their objects (where the source can render them) to `folder`, in `workers`
        processes. Finished files are kept."""
        ids = self.ids()
        missing = {file: slice(*piece) for file, piece in self._pieces(folder) if not file.is_file()}
        left = [name for piece in missing.values() for name in ids[piece]]
        pictures = self.source.read_backgrounds(left, workers)
        with progress("evaluate: backgrounds", len(ids), "images", len(ids) - len(left)) as bar:
            for file, piece in missing.items():
                images = []
                for picture in islice(pictures, piece.stop - piece.start):
                    images.append(square(picture, self.resolution)[0])
                    bar.advance()
                with atomic_path(file) as temporary:
                    np.save(temporary, np.stack(images).transpose(0, 3, 1, 2))

    def backgrounds(self, folder: Path) -> Stream:
        """What `render_backgrounds` wrote to `folder`: uint8 batches `[n, 3, R, R]`."""
        return Stream(len(self.rows), [partial(np.load, file) for file, _ in self._pieces(folder)])

    def _pieces(self, folder: Path) -> list[tuple[Path, tuple[int, int]]]:
        """Files of backgrounds, with the range of the rows of each."""
        return [(folder / f"{start:08d}.npy", (start, end)) for start, end in chunks(len(self.rows), BATCH)]

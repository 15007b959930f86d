"""Loads training batches of images, depth, embeddings and labels, in a reproducible order.

Rank r takes samples r*b to (r+1)*b of every global batch. The order therefore does not depend on the number of
processes or threads, and a run resumes at any position. Memory does not grow with the number of rows.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from threedgp.data import schemas
from threedgp.data.images import decode_image, depth_from_bytes, encoded_images
from threedgp.data.order import WINDOW_GROUPS, Place, SampleOrder
from threedgp.data.shards import ShardFolder
from threedgp.runtime.errors import UserError

CACHE_BYTES = 256 * 2**20
"""Size of the cache of row groups. A data set that fits is decoded once; a larger one is cached encoded."""
DEPTH_UNIT = 2.0**-15
"""Scales the depth of a batch to [-1, 1). 16-bit depth halves the bytes that are copied to the device."""
AHEAD = 2
"""Batches that are prepared in advance, per worker."""


@dataclass(frozen=True)
class Batch:
    """Training rows, b = global batch size / number of processes."""

    image: torch.Tensor
    """uint8 `[b, 3, H, W]`"""
    depth: torch.Tensor
    """int16 `[b, 1, H, W]`, larger = farther, in units of `DEPTH_UNIT`; `[b, 0, H, W]` without depth"""
    embedding: torch.Tensor
    """float32 `[b, E]`"""
    label: torch.Tensor
    """int64 `[b]`"""
    index: torch.Tensor
    """int64 `[b]`, global number of each sample, counted over all epochs"""


class ShardLoader:
    """Iterates endlessly over the training shards in `folder`.

    Args:
        batch_size: total over all processes.
        seed: determines the order.
        position: number of the first sample.
        rank, world_size: the part of each batch that this process takes.
        workers: threads that read and decode.

    Raises:
        UserError: the shards are missing, damaged or not training shards. Damage is found before a shard is used.
        ValueError: `batch_size` is not a multiple of `world_size`.
    """

    def __init__(
        self,
        folder: Path,
        batch_size: int,
        seed: int,
        *,
        position: int = 0,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 2,
    ) -> None:
        if batch_size % world_size:
            raise ValueError(f"a batch of {batch_size} cannot be shared by {world_size} processes")
        self._shards = ShardFolder(folder)
        manifest, meta = self._shards.manifest, self._shards.meta
        if manifest.kind != "shards" or not manifest.rows:
            raise UserError(f"{folder}: does not hold training shards; run `dvc repro shards`.")
        self.size = manifest.rows
        self.num_classes: int = meta["num_classes"]
        self.class_counts = np.array(meta["class_counts"], np.int64)
        self.resolution: int = meta["resolution"]
        self.embedding_dim: int = meta["embedding_dim"]
        self.class_names: list[str] = meta["class_names"]
        self.has_depth: bool = meta["estimator"] != "none"
        self.content_hash = manifest.content_hash

        self._order = SampleOrder([file.rows for file in manifest.files], manifest.row_group_rows, seed)
        self._cache = _RowGroupCache(self._shards, self.resolution, self.embedding_dim)
        self._batch_size, self._share = batch_size, batch_size // world_size
        self._next = position + rank * self._share
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="loader")
        self._checks = ThreadPoolExecutor(1, thread_name_prefix="checksum")
        self._coming: int | None = None
        self._waiting: deque[Future[Batch]] = deque()
        self._ahead = AHEAD * workers

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        while len(self._waiting) <= self._ahead:
            places = self._order.places(self._next, self._share)
            self._waiting.append(self._pool.submit(self._load, self._next, places))
            self._next += self._batch_size
        batch = self._waiting.popleft().result()
        self._verify_ahead()
        return batch

    def close(self) -> None:
        """Stop the threads and drop the batches prepared in advance."""
        self._pool.shutdown(cancel_futures=True)
        self._checks.shutdown(cancel_futures=True)
        self._waiting.clear()

    def _verify_ahead(self) -> None:
        """Verify the checksum of the next shard while the current one is in use."""
        coming = self._order.shard_after(self._next)
        if coming != self._coming:
            self._coming = coming
            self._checks.submit(self._shards.verify, coming)

    def _load(self, first: int, places: list[Place]) -> Batch:
        count, size = self._share, self.resolution
        batch = Batch(
            image=torch.empty((count, 3, size, size), dtype=torch.uint8),
            depth=torch.empty((count, int(self.has_depth), size, size), dtype=torch.int16),
            embedding=torch.empty((count, self.embedding_dim)),
            label=torch.empty(count, dtype=torch.int64),
            index=torch.arange(first, first + count),
        )
        embedding, label = batch.embedding.numpy(), batch.label.numpy()
        start = 0
        group_rows = self._shards.manifest.row_group_rows
        for shard, rows in places:
            for number in np.unique(rows // group_rows):
                mine = np.flatnonzero(rows // group_rows == number)
                group, inside, here = self._cache.group(shard, int(number)), rows[mine] % group_rows, start + mine
                embedding[here] = group.embeddings[inside]
                label[here] = group.labels[inside]
                for sample, row in zip(here.tolist(), inside.tolist(), strict=True):
                    group.show(row, batch.image[sample].numpy(), batch.depth[sample].numpy())
            start += len(rows)
        return batch


class _RowGroup:
    """Rows of one group. Images and depth are decoded on first use, since other processes take other rows.

    Args:
        keep: whether decoded rows are cached.
    """

    def __init__(self, table: pa.Table, resolution: int, embedding_dim: int, keep: bool) -> None:
        count = table.num_rows
        self.labels = table["label"].to_numpy()
        self.embeddings = np.zeros((count, 0), np.float16)
        if embedding_dim:
            flat = table["embedding"].combine_chunks().flatten()
            self.embeddings = flat.to_numpy().reshape(count, embedding_dim)
        self._resolution = resolution
        self._images, self._depths = encoded_images(table["image"]), table["depth"].combine_chunks()
        self._kept: list[tuple[NDArray[np.uint8], NDArray[np.int16]] | None] | None = [None] * count if keep else None
        self.bytes = self._images.nbytes + self._depths.nbytes + self.embeddings.nbytes
        self.bytes += count * _decoded_bytes(resolution) if keep else 0

    def show(self, row: int, image: NDArray[np.uint8], depth: NDArray[np.int16]) -> None:
        """Write a row into `image` `[3, R, R]` and `depth` `[1, R, R]`, or `[0, R, R]` without depth."""
        kept = self._kept[row] if self._kept else None
        if kept is None:
            np.copyto(image, decode_image(self._images[row].as_buffer()).transpose(2, 0, 1))
            if len(depth):
                values = depth_from_bytes(self._depths[row].as_buffer(), self._resolution)
                np.bitwise_xor(values, 0x8000, out=depth[0].view(np.uint16))  # subtracts 2^15
            if self._kept:
                self._kept[row] = image.copy(), depth.copy()  # harmless if two threads do it
        else:
            image[:], depth[:] = kept


def _decoded_bytes(resolution: int) -> int:
    return resolution**2 * (3 + 2)


class _RowGroupCache:
    """An LRU cache of row groups that the threads share; each group is read by one of them."""

    def __init__(self, shards: ShardFolder, resolution: int, embedding_dim: int) -> None:
        self._shards, self._resolution, self._embedding_dim = shards, resolution, embedding_dim
        self._columns = [name for name in schemas.training(embedding_dim).names if name != "id"]
        encoded = sum(file.bytes for file in shards.manifest.files)
        self._keep = encoded + shards.manifest.rows * _decoded_bytes(resolution) <= CACHE_BYTES
        self._groups: OrderedDict[tuple[int, int], Future[_RowGroup]] = OrderedDict()
        self._lock = threading.Lock()
        self._bytes = 0

    def group(self, shard: int, number: int) -> _RowGroup:
        """Row group `number` of `shard`.

        Raises:
            UserError: the shard is missing or damaged.
        """
        key = (shard, number)
        with self._lock:
            future = self._groups.get(key)
            mine = future is None
            if future is None:
                future = self._groups[key] = Future()
            self._groups.move_to_end(key)
        if mine:
            try:
                table = self._shards.read_group(shard, number, self._columns)
                group = _RowGroup(table, self._resolution, self._embedding_dim, self._keep)
            except BaseException as error:
                with self._lock:
                    del self._groups[key]
                future.set_exception(error)
            else:
                future.set_result(group)
                self._make_room(group.bytes)
        return future.result()

    def _make_room(self, more: int) -> None:
        with self._lock:
            self._bytes += more
            # Two windows are always kept; otherwise the groups of one would be read repeatedly.
            while self._bytes > CACHE_BYTES and len(self._groups) > 2 * WINDOW_GROUPS:
                key, oldest = next(iter(self._groups.items()))
                if not oldest.done():
                    break
                self._bytes -= oldest.result().bytes
                del self._groups[key]

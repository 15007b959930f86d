"""Feeds training: batches of pictures, depth, embeddings and labels, in an order that is the same everywhere.

Rank r of W takes samples r*b to (r+1)*b of every global batch, so the order depends neither on the number of processes
nor on that of threads, and a run goes on from any position. Nothing here grows with the number of rows.
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
"""Rows that are kept; a set that fits as a whole is decoded once, one that does not is kept as it was read."""
DEPTH_UNIT = 2.0**-15
"""Of a batch's depth: brings it to [-1, 1). Half the bytes of float32 go to the device."""
AHEAD = 2
"""Batches in preparation, for each worker."""


@dataclass(frozen=True)
class Batch:
    """Training rows, b = global batch size / number of processes."""

    image: torch.Tensor
    """uint8 `[b, 3, H, W]`"""
    depth: torch.Tensor
    """int16 `[b, 1, H, W]`, larger = farther, to be multiplied by `DEPTH_UNIT`; `[b, 0, H, W]` for shards without"""
    embedding: torch.Tensor
    """float32 `[b, E]`"""
    label: torch.Tensor
    """int64 `[b]`"""
    index: torch.Tensor
    """int64 `[b]`, global number of each sample, counted through all epochs"""


class ShardLoader:
    """Iterates for ever over the training shards in `folder`.

    Args:
        batch_size: of all processes together.
        seed: decides the order.
        position: number of the first sample.
        rank, world_size: which part of each batch this process takes.
        workers: threads that read and decode.

    Raises:
        UserError: the shards are missing, damaged or no training shards. A damaged shard is found before its first use.
        ValueError: `batch_size` is no multiple of `world_size`.
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
            raise UserError(f"{folder}: holds no training shards; run `dvc repro shards`.")
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
        """Stop the threads and forget what was read ahead."""
        self._pool.shutdown(cancel_futures=True)
        self._checks.shutdown(cancel_futures=True)
        self._waiting.clear()

    def _verify_ahead(self) -> None:
        """While one shard is in use, compare the checksum of the one after it, so that nothing waits for that later."""
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
    """Rows of one group. Pictures and depth are decoded when first asked for, as other processes take other rows.

    Args:
        keep: decoded rows, for sets of which all are kept.
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
        """Write a row into `image` `[3, R, R]` and `depth` `[1, R, R]`, or `[0, R, R]` for no depth."""
        kept = self._kept[row] if self._kept else None
        if kept is None:
            np.copyto(image, decode_image(self._images[row].as_buffer()).transpose(2, 0, 1))
            if len(depth):
                values = depth_from_bytes(self._depths[row].as_buffer(), self._resolution)
                np.bitwise_xor(values, 0x8000, out=depth[0].view(np.uint16))  # less 2^15, as int16
            if self._kept:
                self._kept[row] = image.copy(), depth.copy()  # two threads that do the same do no harm
        else:
            image[:], depth[:] = kept


def _decoded_bytes(resolution: int) -> int:
    return resolution**2 * (3 + 2)


class _RowGroupCache:
    """The row groups that were used last, shared by the threads; a group is read by one of them."""

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
            # Two windows must fit at any rate, or the rows of one would be read again and again.
            while self._bytes > CACHE_BYTES and len(self._groups) > 2 * WINDOW_GROUPS:
                key, oldest = next(iter(self._groups.items()))
                if not oldest.done():
                    break
                self._bytes -= oldest.result().bytes
                del self._groups[key]

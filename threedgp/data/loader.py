"""Loads training batches of images, depth, embeddings and labels, in a reproducible order.

Rank r takes samples r*b to (r+1)*b of every global batch. The order therefore does not depend on the number of
processes or threads, and a run resumes at any position. Memory does not grow with the number of rows.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import lru_cache
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

CACHED_GROUPS = 2 * WINDOW_GROUPS
"""Row groups in memory: a window, and the one before or after it. Otherwise its groups would be read repeatedly."""
DEPTH_UNIT = 2.0**-15
"""Scales the depth of a batch to [-1, 1). 16-bit depth halves the bytes that are copied to the device."""
AHEAD = 2
"""Batches that are prepared in advance, per worker."""


@dataclass(frozen=True)
class Batch:
    """Training rows, b = global batch size / number of processes."""

    image: torch.Tensor  # uint8 [b, 3, H, W]
    depth: torch.Tensor  # int16 [b, 1, H, W], larger = farther, in units of `DEPTH_UNIT`; `[b, 0, H, W]` without depth
    embedding: torch.Tensor  # float32 [b, E]
    label: torch.Tensor  # int64 [b]
    index: torch.Tensor  # int64 [b], global number of each sample, counted over all epochs


def on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches on `device`. For a GPU, a batch is copied before the one before it is used, from pinned memory, so
    that the host does not wait for copies."""
    if device.type == "cpu":
        yield from batches
        return
    copied: deque[Batch] = deque()
    for batch in batches:
        columns = (getattr(batch, field.name) for field in fields(batch))
        copied.append(Batch(*(column.pin_memory().to(device, non_blocking=True) for column in columns)))
        if len(copied) > 1:
            yield copied.popleft()
    yield from copied


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
        self.fov_quantiles: list[list[float]] | None = meta.get("fov_quantiles")
        self.depth_range: dict[str, float] | None = meta.get("depth_range")
        self.estimator: str = meta["estimator"]
        self.has_depth: bool = meta["estimator"] != "none"
        self.content_hash = manifest.content_hash

        self._order = SampleOrder([file.rows for file in manifest.files], manifest.row_group_rows, seed)
        columns = [name for name in schemas.training(self.embedding_dim).names if name != "id"]
        self._readers = ThreadPoolExecutor(workers, thread_name_prefix="reader")
        self._groups = lru_cache(CACHED_GROUPS)(
            lambda shard, number: self._readers.submit(self._shards.read_group, shard, number, columns)
        )
        self._lock = threading.Lock()
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
        for pool in (self._pool, self._readers, self._checks):
            pool.shutdown(cancel_futures=True)
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
        group_rows = self._shards.manifest.row_group_rows
        start = 0
        for shard, rows in places:
            for number in np.unique(rows // group_rows):
                here = np.flatnonzero(rows // group_rows == number)
                with self._lock:  # or two threads might read the same group
                    group = self._groups(shard, int(number))
                _copy_rows(group.result().take(rows[here] % group_rows), batch, start + here)
            start += len(rows)
        return batch


def _copy_rows(table: pa.Table, batch: Batch, samples: NDArray[np.int64]) -> None:
    """Decode the rows of `table` into the given samples of `batch`."""
    batch.label.numpy()[samples] = table["label"].to_numpy()
    if batch.embedding.shape[1]:
        flat = table["embedding"].combine_chunks().flatten().to_numpy()
        batch.embedding.numpy()[samples] = flat.reshape(len(samples), -1)
    images, depths = encoded_images(table["image"]), table["depth"].combine_chunks()
    for row, sample in enumerate(samples.tolist()):
        batch.image[sample].numpy()[:] = decode_image(images[row].as_buffer()).transpose(2, 0, 1)
        if batch.depth.shape[1]:
            values = depth_from_bytes(depths[row].as_buffer(), batch.image.shape[-1])
            np.bitwise_xor(values, 0x8000, out=batch.depth[sample, 0].numpy().view(np.uint16))  # subtracts 2^15

"""Statistics of the real set, reproducible for any number of threads and processes."""

from __future__ import annotations

import hashlib
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from threedgp.data.shards import ShardFolder
from threedgp.features.moments import Moments
from threedgp.runtime.parallel import ordered_map
from threedgp.runtime.processes import SINGLE_PROCESS, ProcessGroup

STATISTICS = "statistics.npz"
SHARDS_OF_A_PART = 16
"""Shards whose moments one thread sums up; the parts are summed in order at the end. Floating-point sums depend on
their order, so the partition is fixed."""


def statistics_key(prepared: ShardFolder, extractor_identity: str) -> str:
    """Hash of all that the statistics depend on: the prepared images and the network."""
    return hashlib.sha256(f"{prepared.manifest.content_hash} {extractor_identity}".encode()).hexdigest()


def read_vectors(column: pa.ChunkedArray) -> np.ndarray:
    """A column of lists of D values as `[N, D]`."""
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def write_statistics(
    features: ShardFolder,
    prepared: ShardFolder,
    extractor_identity: str,
    workers: int = 1,
    group: ProcessGroup = SINGLE_PROCESS,
) -> None:
    """Write count, mean and covariance of all `features` in float64 to ``statistics.npz`` beside them.

    Memory holds a shard and a covariance per thread. Finished parts of an earlier run are kept beside the folder.

    Args:
        features: of the images in `prepared`.
        prepared: shards of stage `prepare`.
        extractor_identity: of the network.
        workers: threads.
        group: the processes that share the work.
    """
    key = statistics_key(prepared, extractor_identity)
    parts = features.folder.with_name(f"{features.folder.name}-moments")
    starts = [
        start
        for start in range(0, len(features), SHARDS_OF_A_PART)
        if any(file.rows for file in features.manifest.files[start : start + SHARDS_OF_A_PART])
    ]

    def part(start: int) -> Path:
        return parts / f"{start:05d}.npz"

    def write_part(start: int) -> None:
        shards = range(start, min(start + SHARDS_OF_A_PART, len(features)))
        columns = (features.read(shard, ["feature"])["feature"] for shard in shards)
        moments = reduce(add, (Moments.of(read_vectors(column)) for column in columns if len(column)))
        moments.save(part(start), key)

    mine = [start for start in starts[group.rank :: group.size] if not part(start).is_file()]
    with threadpool_limits(1, user_api="blas"):  # the partition of its sums depends on the number of threads
        for _ in ordered_map(write_part, mine, workers):
            pass
        group.wait()
        if group.is_main:
            moments = reduce(add, (Moments.load(part(start), key) for start in starts))
            moments.save(features.folder / STATISTICS, key)

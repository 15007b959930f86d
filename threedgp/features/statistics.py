"""Statistics of the real set, reproducible for any number of threads."""

from __future__ import annotations

import hashlib
from functools import reduce
from itertools import groupby
from operator import add

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from threedgp.data.shards import ShardFolder
from threedgp.features.moments import Moments
from threedgp.runtime.parallel import ordered_map

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


def write_statistics(features: ShardFolder, prepared: ShardFolder, extractor_identity: str, workers: int = 1) -> None:
    """Write count, mean and covariance of all `features` in float64 to ``statistics.npz`` beside them.

    Memory holds a shard and a covariance per thread.
    """
    files = features.manifest.files
    shards = [shard for shard in range(len(files)) if files[shard].rows]
    parts = [list(part) for _, part in groupby(shards, lambda shard: shard // SHARDS_OF_A_PART)]

    def moments(part: list[int]) -> Moments:
        return reduce(add, (Moments.of(read_vectors(features.read(shard, ["feature"])["feature"])) for shard in part))

    with threadpool_limits(1, user_api="blas"):  # the partition of its sums depends on the number of threads
        total = reduce(add, ordered_map(moments, parts, workers))
    total.save(features.folder / STATISTICS, statistics_key(prepared, extractor_identity))

"""Statistics of the real set, reproducible for any number of threads."""

from __future__ import annotations

import hashlib
from functools import reduce
from itertools import groupby
from operator import add
from pathlib import Path

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from threedgp.data.shards import ShardFolder
from threedgp.features.moments import Moments
from threedgp.runtime.errors import UserError
from threedgp.runtime.parallel import ordered_map

STATISTICS = "statistics.npz"
SHARDS_OF_A_PART = 16
"""Shards whose moments one thread sums up; the parts are summed in order at the end. Floating-point sums depend on
their order, so the partition is fixed."""

PUBLISHED_SIZES = {"": 2048, "_s": 2023}
"""Numbers of pooled and of spatial Inception features, by the suffix of their published statistics."""
MAX_HEADER = 2**16
"""Bytes of the header of an array."""


def statistics_key(prepared: ShardFolder, extractor_identity: str) -> str:
    """Hash of all that the statistics depend on: the prepared images and the network."""
    return hashlib.sha256(f"{prepared.manifest.content_hash} {extractor_identity}".encode()).hexdigest()


def read_vectors(column: pa.ChunkedArray) -> np.ndarray:
    """A column of lists of D values as `[N, D]`."""
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def read_published(file: Path) -> tuple[Moments, Moments]:
    """Moments of the pooled and the spatial Inception features of a real set, from a file of ADM's evaluator (Dhariwal
    and Nichol 2021), such as ``VIRTUAL_imagenet256_labeled.npz``. The number of images is not in the file.

    Raises:
        UserError: the file holds something else.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            for suffix, size in PUBLISHED_SIZES.items():
                for name, numbers in ((f"mu{suffix}", size), (f"sigma{suffix}", size**2)):
                    if arrays.zip.getinfo(f"{name}.npy").file_size > 8 * numbers + MAX_HEADER:
                        raise ValueError
            pooled, spatial = (
                _published(arrays[f"mu{suffix}"], arrays[f"sigma{suffix}"], size)
                for suffix, size in PUBLISHED_SIZES.items()
            )
            return pooled, spatial
    except OSError as error:
        raise UserError(f"features.reference: {file} cannot be read ({error.strerror or error}); correct it.") from None
    except Exception:  # zipfile, its decompressors and NumPy raise many kinds of errors
        raise UserError(
            f"features.reference: {file} does not hold the statistics mu, sigma, mu_s and sigma_s of ADM's evaluator; "
            "name another file, or set it to null."
        ) from None


def _published(mean: np.ndarray, covariance: np.ndarray, size: int) -> Moments:
    mean, covariance = mean.astype(np.float64), covariance.astype(np.float64)
    shapes = mean.shape, covariance.shape
    if shapes != ((size,), (size, size)) or not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError
    return Moments(1, mean, covariance)


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

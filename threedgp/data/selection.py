"""Instance selection: the images of each class that are most likely under a Gaussian of their features.

DeVries et al., "Instance Selection for GANs" (arXiv 2007.15255), without PCA. The Gaussian is that of scikit-learn's
`GaussianMixture(1, reg_covar=...)`. All sums are in float64, over images in the order of their ids, so the result does
not depend on the partition into shards. Memory holds one covariance, BLOCK_ROWS features and one shard; all features
are in a memory-mapped file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky, solve_triangular

from threedgp.config import SelectConfig
from threedgp.data import schemas
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.runtime.atomic import require_free, write_json
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import progress

BLOCK_ROWS = 4096
"""Images whose features are in memory as float64 at a time."""


def log_likelihoods(features: NDArray[np.float32], regularizer: float) -> NDArray[np.float64]:
    """Log-likelihood `[N]` of features `[N, D]` under their own Gaussian.

    `regularizer` is added to the diagonal of the covariance, which makes it regular for fewer images than dimensions.
    """
    count, dim = features.shape
    mean = np.add.reduce([block.sum(axis=0) for block in _blocks(features)]) / count
    covariance = np.zeros((dim, dim))
    for block in _blocks(features):
        covariance += (block - mean).T @ (block - mean)
    covariance /= count
    covariance[np.diag_indices(dim)] += regularizer
    try:
        root = cholesky(covariance, lower=True, overwrite_a=True)
    except LinAlgError:
        raise UserError(
            f"select.covariance_regularizer: {regularizer:g} is lost in the rounding of these features; raise it."
        ) from None
    constant = -0.5 * dim * np.log(2 * np.pi) - np.log(np.diag(root)).sum()
    whitened = (solve_triangular(root, (block - mean).T, lower=True) for block in _blocks(features))
    return np.concatenate([constant - 0.5 * (white**2).sum(axis=0) for white in whitened])


def _blocks(features: NDArray[np.float32]) -> Iterator[NDArray[np.float64]]:
    for start in range(0, len(features), BLOCK_ROWS):
        yield features[start : start + BLOCK_ROWS].astype(np.float64)


def class_log_likelihoods(
    features: NDArray[np.float32], classes: list[slice], regularizer: float, likelihoods: NDArray[np.float64]
) -> None:
    """Fill in the `likelihoods` `[N]` of the features `[N, D]`, each under the Gaussian of its class.

    They are NaN where missing; complete classes are kept. May be a memory-mapped file.
    """
    missing = [rows for rows in classes if not np.isfinite(likelihoods[rows]).all()]
    left = sum(rows.stop - rows.start for rows in missing)
    with progress("select", len(likelihoods), done=len(likelihoods) - left) as bar:
        for rows in missing:
            likelihoods[rows] = log_likelihoods(features[rows], regularizer)
            bar.advance(rows.stop - rows.start)


def choose(
    likelihoods: NDArray[np.float64], classes: list[slice], keep_fraction: float, keep_count: int | None
) -> NDArray[np.bool_]:
    """The images to keep, `[N]`: the most likely ones of each class; the first of equally likely ones.

    Args:
        keep_fraction: fraction of each class, rounded, at least one image.
        keep_count: number of images of each class, instead of the fraction; smaller classes are kept whole.
    """
    kept = np.zeros(len(likelihoods), bool)
    for rows in classes:
        count = keep_count or max(1, round(keep_fraction * (rows.stop - rows.start)))
        best = np.argsort(-likelihoods[rows], kind="stable")[:count]
        kept[rows.start + best] = True
    return kept


def rows_of_classes(labels: NDArray[np.int32]) -> list[slice]:
    """Rows of each class, for sorted `labels`."""
    cuts = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    return [slice(start, stop) for start, stop in pairwise(cuts) if stop > start]


def gather_features(features: ShardFolder, places: NDArray[np.int64], path: Path) -> NDArray[np.float32]:
    """All features `[N, D]` in the memory-mapped file `path`: row i of the shards becomes row `places[i]`.

    A stopped run resumes with the first missing shard.
    """
    shape = (len(places), features.schema.field("feature").type.list_size)
    record = path.with_suffix(".json")  # number of shards in the file
    done = json.loads(record.read_text()) if record.exists() and path.exists() else 0
    if not done:
        path.parent.mkdir(parents=True, exist_ok=True)
        require_free(path.parent, shape[0] * shape[1] * 4)
    gathered = np.lib.format.open_memmap(path, "r+" if done else "w+", np.float32, shape)
    if not done and hasattr(os, "posix_fallocate"):  # writing to a mapped file on a full disk would kill the process
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    starts = np.cumsum([0, *(file.rows for file in features.manifest.files)])
    with progress("select: gather", len(places), done=int(starts[done])) as bar:
        for shard in range(done, len(features)):
            table = features.read(shard, ["id", "feature"])
            values = table["feature"].combine_chunks().flatten().to_numpy().reshape(-1, shape[1])
            finite = np.isfinite(values).all(axis=1)
            if not finite.all():
                name = table["id"][int(np.argmin(finite))].as_py()
                raise UserError(f"{features.folder}: the features of {name} are not finite; check this image.")
            gathered[places[starts[shard] : starts[shard + 1]]] = values
            gathered.flush()
            write_json(record, shard + 1)
            bar.advance(len(values))
    return gathered


def select_set(features: ShardFolder, folder: Path, settings: SelectConfig) -> None:
    """Select from the images of `features` and write the selected ids, sorted, to `folder`/ids.parquet.

    Intermediate results are stored beside `folder`: a stopped run resumes with the first missing shard or class.

    Raises:
        UserError: a feature is not finite, `settings.covariance_regularizer` is too small for the features, or there is
            too little disk space.
    """
    images = pa.concat_tables(features.iterate(["id", "label"]))
    order = pc.sort_indices(images, [("label", "ascending"), ("id", "ascending")])
    images = images.take(order)
    if settings.keep_fraction < 1 or settings.keep_count:
        # Each class is then a contiguous part of the file.
        gathered = gather_features(features, np.argsort(order.to_numpy()), folder.with_name("features.npy"))
        classes = rows_of_classes(images["label"].to_numpy())
        likelihoods = _memory_mapped(folder.with_name("likelihoods.npy"), len(order))
        class_log_likelihoods(gathered, classes, settings.covariance_regularizer, likelihoods)
        kept = choose(likelihoods, classes, settings.keep_fraction, settings.keep_count)
        images = images.filter(pa.array(kept))
    meta = {**settings.model_dump(), "candidates": features.manifest.rows}
    writer = ShardWriter(folder, schemas.SELECTED, "selected", meta, part_name="ids.parquet")
    writer.write(0, images.sort_by("id"))
    writer.finish()


def _memory_mapped(path: Path, count: int) -> NDArray[np.float64]:
    """A file of `count` values, initially NaN."""
    if path.exists():
        return np.load(path, mmap_mode="r+")
    fresh = path.with_suffix(".fresh.npy")
    np.save(fresh, np.full(count, np.nan))
    fresh.rename(path)
    return np.load(path, mmap_mode="r+")

"""Instance selection: one Gaussian for each class, of which the most likely pictures are kept.

After "Instance Selection for GANs" (arXiv 2007.15255), without PCA. The Gaussian is that of scikit-learn's
GaussianMixture(1, reg_covar=...). All sums are in float64, over pictures in the order of their ids, so that the result
does not depend on how the set is cut into shards.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

from threedgp.atomic import require_free
from threedgp.data import schemas
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.errors import UserError
from threedgp.progress import progress

BLOCK_ROWS = 4096
"""Pictures that are in memory as float64 at a time."""


def log_likelihoods(features: NDArray[np.float32], regulariser: float) -> NDArray[np.float64]:
    """Log-likelihood `[N]` of features `[N, D]` under their own Gaussian.

    Args:
        features: may be a part of a memory-mapped file.
        regulariser: added to the diagonal of the covariance, so that fewer pictures than dimensions will do.
    """
    count, dim = features.shape
    mean = np.add.reduce([block.sum(axis=0) for block in _blocks(features)]) / count
    covariance = np.zeros((dim, dim))
    for block in _blocks(features):
        covariance += (block - mean).T @ (block - mean)
    root = cholesky(covariance / count + regulariser * np.eye(dim), lower=True)
    constant = -0.5 * dim * np.log(2 * np.pi) - np.log(np.diag(root)).sum()
    whitened = (solve_triangular(root, (block - mean).T, lower=True) for block in _blocks(features))
    return np.concatenate([constant - 0.5 * (white**2).sum(axis=0) for white in whitened])


def _blocks(features: NDArray[np.float32]) -> Iterator[NDArray[np.float64]]:
    for start in range(0, len(features), BLOCK_ROWS):
        yield features[start : start + BLOCK_ROWS].astype(np.float64)


def select(
    features: NDArray[np.float32], labels: NDArray[np.int32], keep_fraction: float, regulariser: float
) -> NDArray[np.bool_]:
    """Which pictures to keep, `[N]`: of each class the most likely `keep_fraction`, rounded, but at least one.

    Args:
        features: `[N, D]`; may be a memory-mapped file.
        labels: `[N]`, in any order; sorted ones save a copy of the class.
        keep_fraction: share of each class; of equally likely pictures the first are kept.
        regulariser: as in `log_likelihoods`.
    """
    kept = np.zeros(len(labels), bool)
    order = np.argsort(labels, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        together = rows[-1] - rows[0] == len(rows) - 1
        members = features[rows[0] : rows[-1] + 1] if together else features[rows]
        best = np.argsort(-log_likelihoods(members, regulariser), kind="stable")
        kept[rows[best[: max(1, round(keep_fraction * len(rows)))]]] = True
    return kept


def select_set(features: ShardFolder, folder: Path, keep_fraction: float, regulariser: float) -> None:
    """Select among the pictures of `features` and write the survivors, sorted by id, to `folder`/ids.parquet.

    Raises:
        UserError: a feature is not finite.
    """
    pictures = pa.concat_tables(features.iterate(["id", "label"]))
    order = pc.sort_indices(pictures, [("label", "ascending"), ("id", "ascending")])
    pictures = pictures.take(order)
    if keep_fraction < 1:
        gathered = _gather(features, np.argsort(order.to_numpy()), folder.with_name("features.npy"))
        kept = select(gathered, pictures["label"].to_numpy(), keep_fraction, regulariser)
        pictures = pictures.filter(pa.array(kept))
    meta = {
        "keep_fraction": keep_fraction,
        "covariance_regulariser": regulariser,
        "candidates": features.manifest.rows,
    }
    writer = ShardWriter(folder, schemas.SELECTED, "selected", meta, part_name="ids.parquet")
    writer.write(0, pictures.sort_by("id"))
    writer.finish()


def _gather(features: ShardFolder, places: NDArray[np.int64], path: Path) -> NDArray[np.float32]:
    """All features as a memory-mapped file `[N, D]`, row i of the shards in row `places[i]`.

    A class is then one stretch of the file, and memory holds one class at a time, not all covariances.
    """
    dim = features.schema.field("feature").type.list_size
    require_free(path.parent, len(places) * dim * 4)
    gathered = np.lib.format.open_memmap(path, "w+", np.float32, (len(places), dim))
    with progress("select", len(places)) as bar:
        first = 0
        for table in features.iterate(["id", "feature"]):
            values = table["feature"].combine_chunks().flatten().to_numpy().reshape(-1, dim)
            finite = np.isfinite(values).all(axis=1)
            if not finite.all():
                name = table["id"][int(np.argmin(finite))].as_py()
                raise UserError(f"{features.folder}: the features of {name} are not finite; look at that picture.")
            gathered[places[first : first + len(values)]] = values
            first += len(values)
            bar.advance(len(values))
    return gathered

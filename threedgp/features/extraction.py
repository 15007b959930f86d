"""Features of prepared pictures, shard by shard."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from threedgp.data import schemas
from threedgp.data.images import decode_image
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.features.extractor import FeatureExtractor
from threedgp.features.moments import Moments
from threedgp.progress import Progress, progress

STATISTICS = "statistics.npz"


def statistics_key(prepared: ShardFolder, extractor_identity: str) -> str:
    """What the statistics of the real set are a function of: its pictures, how they were prepared, and the network."""
    return hashlib.sha256(f"{prepared.manifest.content_hash} {extractor_identity}".encode()).hexdigest()


def decoded_batches(images: pa.ChunkedArray, batch_size: int) -> Iterator[torch.Tensor]:
    """Encoded square pictures of one size as uint8 `[b, 3, R, R]`, b <= `batch_size`."""
    for start in range(0, len(images), batch_size):
        batch = np.stack([decode_image(image.as_py()) for image in images.slice(start, batch_size)])
        yield torch.from_numpy(batch).permute(0, 3, 1, 2)


def extract(extractor: FeatureExtractor, images: pa.ChunkedArray, batch_size: int, bar: Progress) -> np.ndarray:
    """Pooled features of a column of encoded pictures: float32 `[N, D]`."""
    features = [np.empty((0, extractor.feature_dim), np.float32)]
    for batch in decoded_batches(images, batch_size):
        features.append(extractor(batch).pooled.numpy())
        bar.advance(len(batch))
    return np.concatenate(features)


def read_vectors(column: pa.ChunkedArray) -> np.ndarray:
    """A column of lists of D values as `[N, D]`."""
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def _vector_column(vectors: np.ndarray, value: pa.DataType) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), value), vectors.shape[1])


def write_features(prepared: ShardFolder, extractor: FeatureExtractor, batch_size: int, folder: Path) -> None:
    """Features of all pictures and the statistics of the set.

    Args:
        prepared: shards of stage `prepare`.
        extractor: the network.
        batch_size: pictures at once.
        folder: gets one shard for each of `prepared`, with the same rows, and ``statistics.npz``; finished shards of
            an earlier run are kept.
    """
    about = {"network": extractor.name, "network_identity": extractor.identity}
    writer = ShardWriter(folder, schemas.features(extractor.feature_dim), "features", about)
    missing = [index for index in range(len(prepared)) if not writer.done(index)]
    left = sum(prepared.manifest.files[index].rows for index in missing)
    with progress("features", prepared.manifest.rows, done=prepared.manifest.rows - left) as bar:
        for index in missing:
            rows = prepared.read(index, ["id", "label", "image"])
            features = extract(extractor, rows["image"], batch_size, bar)
            column = _vector_column(features, pa.float32())
            writer.write(index, rows.drop_columns("image").append_column("feature", column))
    writer.finish()
    columns = (table["feature"] for table in ShardFolder(folder).iterate(["feature"]))
    moments = reduce(add, (Moments.of(read_vectors(column)) for column in columns if len(column)))
    moments.save(folder / STATISTICS, statistics_key(prepared, extractor.identity))


def write_embeddings(
    prepared: ShardFolder, selected: ShardFolder, extractor: FeatureExtractor | None, batch_size: int, folder: Path
) -> None:
    """Features of the selected pictures in half precision, for distillation.

    Args:
        prepared, selected: shards of the stages `prepare` and `select`.
        extractor: the network; None writes the ids alone.
        batch_size: pictures at once.
        folder: gets one shard for each of `prepared`, with the rows that are selected; finished shards of an earlier
            run are kept.
    """
    dim = extractor.feature_dim if extractor else 0
    about = {
        "embedder": extractor.name if extractor else "none",
        "embedder_identity": extractor.identity if extractor else "none",
        "embedding_dim": dim,
    }
    writer = ShardWriter(folder, schemas.embed(dim), "embed", about)
    missing = [index for index in range(len(prepared)) if not writer.done(index)]
    wanted = selected.column("id").combine_chunks()
    done = sum(writer.rows(index) for index in range(len(prepared)) if writer.done(index))
    with progress("embed", len(wanted), done=done) as bar:
        for index in missing:
            rows = prepared.read(index, ["id", "image"])
            rows = rows.filter(pc.is_in(rows["id"], value_set=wanted))
            table = rows.select(["id"])
            if extractor:
                features = extract(extractor, rows["image"], batch_size, bar)
                table = table.append_column("embedding", _vector_column(features.astype(np.float16), pa.float16()))
            else:
                bar.advance(len(rows))
            writer.write(index, table)
    writer.finish()

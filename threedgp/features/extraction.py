"""Features of prepared images, shard by shard."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from threedgp.data import schemas
from threedgp.data.images import decode_images
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.data.shardwise import ShardwiseJob
from threedgp.features.network import FeatureExtractor
from threedgp.features.statistics import write_statistics
from threedgp.runtime.processes import SINGLE_PROCESS, ProcessGroup

NO_REJECTS = schemas.REJECTS.empty_table()


def pooled_features(extractor: FeatureExtractor) -> Callable[[pa.ChunkedArray], np.ndarray]:
    """A thread-safe function from a column of encoded images to their pooled features, float32 `[N, D]`.

    Threads decode in parallel. They also compute in parallel on a CPU, but one at a time on a GPU.
    """
    lock = nullcontext() if extractor.device.type == "cpu" else threading.Lock()

    def features_of(images: pa.ChunkedArray) -> np.ndarray:
        if not len(images):
            return np.empty((0, extractor.feature_dim), np.float32)
        batch = torch.from_numpy(decode_images(images)).permute(0, 3, 1, 2)
        with lock:
            return extractor(batch).pooled.numpy()

    return features_of


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Limit PyTorch to one thread per caller: its partition of sums would change the last bits of a feature."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def write_features(
    prepared: ShardFolder,
    extractor: FeatureExtractor,
    batch_size: int,
    folder: Path,
    workers: int = 1,
    group: ProcessGroup = SINGLE_PROCESS,
) -> None:
    """Write features of all images and the statistics of the data set.

    Args:
        prepared: shards of stage `prepare`.
        extractor: the network.
        batch_size: images per batch.
        folder: receives one shard for each of `prepared`, with the same rows, and ``statistics.npz``; finished shards
            of an earlier run are kept.
        workers: threads. The result depends neither on their number nor on the number of processes.
        group: the processes that share the shards.
    """
    about = {"network": extractor.name, "network_identity": extractor.identity}
    writer = ShardWriter(folder, schemas.features(extractor.feature_dim), "features", about)
    inputs = [partial(prepared.read, shard, ["id", "label", "image"]) for shard in range(len(prepared))]
    _write_vectors(writer, inputs, prepared.manifest.rows, "feature", extractor, batch_size, workers, group)
    if group.is_main:
        write_statistics(ShardFolder(folder), prepared, extractor.identity, workers)


def write_embeddings(
    prepared: ShardFolder,
    selected: ShardFolder,
    extractor: FeatureExtractor | None,
    batch_size: int,
    folder: Path,
    workers: int = 1,
    group: ProcessGroup = SINGLE_PROCESS,
) -> None:
    """Write features of the selected images in half precision, for distillation.

    Args:
        prepared, selected: shards of the stages `prepare` and `select`.
        extractor: the network; None = only the ids are written.
        batch_size: images per batch.
        folder: receives one shard for each of `prepared`, with its selected rows; finished shards of an earlier run
            are kept.
        workers: threads. The result depends neither on their number nor on the number of processes.
        group: the processes that share the shards.
    """
    dim = extractor.feature_dim if extractor else 0
    about = {
        "embedder": extractor.name if extractor else "none",
        "embedder_identity": extractor.identity if extractor else "none",
        "embedding_dim": dim,
    }
    ids = selected.column("id").combine_chunks()
    columns = ["id", "image"] if extractor else ["id"]

    def rows_of(shard: int) -> pa.Table:
        rows = prepared.read(shard, columns)
        return rows.filter(pc.is_in(rows["id"], value_set=ids))

    writer = ShardWriter(folder, schemas.embed(dim), "embed", about)
    inputs = [partial(rows_of, shard) for shard in range(len(prepared))]
    _write_vectors(writer, inputs, len(ids), "embedding", extractor, batch_size, workers, group)


def _write_vectors(
    writer: ShardWriter,
    inputs: list[Callable[[], pa.Table]],
    total: int,
    name: str,
    extractor: FeatureExtractor | None,
    batch_size: int,
    workers: int,
    group: ProcessGroup,
) -> None:
    """Write shards in which a column `name` of features, of the type in the schema, replaces the images."""
    features_of = pooled_features(extractor) if extractor else None

    def work(rows: pa.Table) -> tuple[pa.Table, pa.Table]:
        table = rows.select([column for column in rows.column_names if column != "image"])
        if features_of:
            kind = writer.schema.field(name).type
            vectors = features_of(rows["image"]).astype(kind.value_type.to_pandas_dtype())
            table = table.append_column(name, pa.FixedSizeListArray.from_arrays(vectors.ravel(), kind.list_size))
        return table, NO_REJECTS

    job = ShardwiseJob(writer.kind, writer.folder, writer, workers, group=group, chunk_rows=batch_size)
    with one_thread_each():
        for _ in job.run(inputs, total, work):
            pass
    if group.is_main:
        writer.finish()

"""Features of prepared images: for each shard of stage `prepare` one with the vectors of all its rows, or of some.

Finished shards of an earlier run are kept. The result depends neither on the number of threads (`workers`) nor on that
of the processes that share the shards (`group`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
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
    """Write features of all images of `prepared` and the statistics of the data set to `folder`."""
    about = {"network": extractor.name, "network_identity": extractor.identity}
    writer = ShardWriter(folder, schemas.features(extractor.feature_dim), "features", about)
    job = ShardwiseJob("features", writer, workers, group=group, chunk_rows=batch_size)

    def read(shard: int) -> pa.Table:
        return prepared.read(shard, ["id", "label", "image"])

    _write_vectors(job, writer.schema, read, len(prepared), prepared.manifest.rows, extractor)
    if group.is_main:
        writer.finish()
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
    """Write features of the selected images in half precision, for distillation, to `folder`.

    Without an extractor only the ids are written.
    """
    dim = extractor.feature_dim if extractor else 0
    name, identity = (extractor.name, extractor.identity) if extractor else ("none", "none")
    about = {"embedder": name, "embedder_identity": identity, "embedding_dim": dim}
    ids = selected.column("id").combine_chunks()

    def read(shard: int) -> pa.Table:
        rows = prepared.read(shard, ["id", "image"] if extractor else ["id"])
        return rows.filter(pc.is_in(rows["id"], value_set=ids))

    writer = ShardWriter(folder, schemas.embed(dim), "embed", about)
    job = ShardwiseJob("embed", writer, workers, group=group, chunk_rows=batch_size)
    _write_vectors(job, writer.schema, read, len(prepared), len(ids), extractor)
    if group.is_main:
        writer.finish()


def _write_vectors(
    job: ShardwiseJob,
    schema: pa.Schema,
    read: Callable[[int], pa.Table],
    count: int,
    total: int,
    extractor: FeatureExtractor | None,
) -> None:
    """Write shards in which features, the last column of `schema`, replace the images."""
    features_of = pooled_features(extractor) if extractor else None

    def work(rows: pa.Table) -> tuple[pa.Table, pa.Table]:
        table = rows.select([column for column in rows.column_names if column != "image"])
        if features_of:
            column = schema.field(-1)
            vectors = features_of(rows["image"]).astype(column.type.value_type.to_pandas_dtype())
            vectors = pa.FixedSizeListArray.from_arrays(vectors.ravel(), column.type.list_size)
            table = table.append_column(column.name, vectors)
        return table, NO_REJECTS

    with one_thread_each():
        for _ in job.run(read, count, total, work):
            pass

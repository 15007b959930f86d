"""Throughput of the data path on this machine: rendering, preparing, estimating depth, shuffling, loading.

Prints one line per step; `--resolution` and `--count` set the scale. The machine should be idle otherwise.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import typer

from threedgp.config import DatasetConfig, DepthConfig, DownloadConfig, PrepareConfig, ShardsConfig
from threedgp.data import schemas
from threedgp.data.loader import ShardLoader
from threedgp.data.order import SampleOrder
from threedgp.data.prepare import prepare_set
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.data.shuffle import JoinedShards, write_training_shards
from threedgp.data.source import open_source
from threedgp.data.sources.procedural import render_shards
from threedgp.depth.estimation import SelectedImages, estimate_set
from threedgp.depth.estimator import build_estimator

EMBEDDING_DIM = 1280


@contextmanager
def timed(what: str, rows: int) -> Iterator[None]:
    start, spent = time.perf_counter(), time.process_time()
    yield
    wall, spent = time.perf_counter() - start, time.process_time() - spent
    print(f"{what:<40} {rows / wall:>9.0f} rows/s {1e3 * spent / rows:>8.2f} ms of CPU per row", flush=True)


def write_selection_and_embeddings(place: Path) -> None:
    """Select all images; write zero embeddings of the usual size."""
    prepared = ShardFolder(place / "prepared")
    selected = ShardWriter(place / "selected", schemas.SELECTED, "selected", {}, part_name="ids.parquet")
    selected.write(0, pa.concat_tables(prepared.iterate(["id", "label"])))
    selected.finish()
    meta = {"embedder": "none", "embedding_dim": EMBEDDING_DIM}
    embed = ShardWriter(place / "embed", schemas.embed(EMBEDDING_DIM), "embed", meta)
    for shard in range(len(prepared)):
        rows = prepared.read(shard, ["id"])
        zeros = pa.array(np.zeros(len(rows) * EMBEDDING_DIM, np.float16))
        embed.write(shard, rows.append_column("embedding", pa.FixedSizeListArray.from_arrays(zeros, EMBEDDING_DIM)))
    embed.finish()


def main(count: int = 2048, resolution: int = 32, workers: int = 2, batch_size: int = 16) -> None:
    """Measure."""
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} CPUs, load {load:.1f}, {workers} workers, {count} images of {resolution}x{resolution}")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        raw = max(64, resolution)
        with timed(f"download: render at {raw}", count):
            render_shards(DownloadConfig(count=count, resolution=raw), place / "raw", workers)
        source = open_source(DatasetConfig(name="bench", source="procedural"), place / "raw")
        with timed("prepare", count):
            prepare_set(source, place / "prepared", PrepareConfig(shard_rows=512), resolution, workers)
        write_selection_and_embeddings(place)
        with timed("depth: simulated", count):
            prepared, selected = ShardFolder(place / "prepared"), ShardFolder(place / "selected")
            images = SelectedImages(source, prepared, selected)
            estimate_set(images, build_estimator(DepthConfig(estimator="simulated")), 0.0, place / "depth", workers)
        with timed("shards", count):
            joined = JoinedShards(*(ShardFolder(place / name) for name in ("prepared", "selected", "depth", "embed")))
            write_training_shards(joined, place / "shards", ShardsConfig(rows_per_shard=1024), "bench")

        start = time.perf_counter()
        loader = ShardLoader(place / "shards", batch_size, 0, workers=workers)
        next(loader)
        print(f"loader: first batch after {1e3 * (time.perf_counter() - start):.0f} ms")
        batches = count // batch_size
        with timed("loader: first epoch", count):
            list(islice(loader, batches - 1))
        with timed("loader: second epoch", count):
            list(islice(loader, batches))
        loader.close()
        bytes_per_row = sum(file.bytes for file in ShardFolder(place / "shards").manifest.files) / count
        print(f"training shards: {bytes_per_row / 1e3:.1f} kB per row")

    start = time.perf_counter()
    order = SampleOrder([4400] * 300, 32, 0)
    order.places(10**9, 64)
    print(f"order of 1.3 million rows at position 10^9: {1e3 * (time.perf_counter() - start):.1f} ms")


if __name__ == "__main__":
    typer.run(main)

"""The loader on training shards of 256x256: rows/s, time to the first batch, memory, and growth with the data set.

    python benchmarks/data_loader.py

The shards are written here, in full size: textured images, smooth depth, embeddings of 2048 values. A manifest of 1.3
million rows in 300 shards, whose files are hard links to a few real ones, shows what does not grow with the data set.
Appends a row to benchmarks/results/data.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
from measuring import RESULTS, append_row, resident
from workloads import textured

from threedgp.data import schemas
from threedgp.data.images import Encoding, depth_to_bytes, encode_image
from threedgp.data.loader import ShardLoader
from threedgp.data.order import SampleOrder
from threedgp.data.shards import MANIFEST, ShardWriter
from threedgp.runtime.allocator import keep_freed_memory

SIDE, DIM = 256, 2048
SHARD_ROWS, GROUP_ROWS = 4352, 32
SHARDS = 300
REAL_SHARDS = 2
INTERVAL = 256
"""Rows of one time measurement; the best of many is the one least disturbed by other processes."""
DIFFERENT = 64
"""Different images in the shards."""


def training_shards(folder: Path, encoding: Encoding) -> None:
    """REAL_SHARDS shards of SHARD_ROWS rows."""
    random = np.random.default_rng(0)
    images = [encode_image(textured(SIDE, SIDE, seed), encoding) for seed in range(DIFFERENT)]
    maps = [
        cv2.cvtColor(textured(SIDE, SIDE, seed), cv2.COLOR_RGB2GRAY).astype(np.float32) for seed in range(DIFFERENT)
    ]
    maps = [cv2.GaussianBlur(values, (0, 0), 1.5) for values in maps]
    scaled = [cv2.normalize(values, None, 0, 65535, cv2.NORM_MINMAX) for values in maps]
    depths = [depth_to_bytes(np.rint(values).astype(np.uint16)) for values in scaled]
    meta = {
        "resolution": SIDE, "embedding_dim": DIM, "num_classes": 1000, "class_counts": [1300] * 1000,
        "class_names": [f"n{label:08d}" for label in range(1000)], "estimator": "synthetic",
    }  # fmt: skip
    writer = ShardWriter(folder, schemas.training(DIM), "shards", meta, row_group_rows=GROUP_ROWS)
    for shard in range(REAL_SHARDS):
        picked = random.integers(0, DIFFERENT, SHARD_ROWS)
        vectors = pa.array(random.normal(size=SHARD_ROWS * DIM).astype(np.float16))
        columns = {
            "id": [f"{shard}/{row}" for row in range(SHARD_ROWS)],
            "label": pa.array(random.integers(0, 1000, SHARD_ROWS)),
            "image": pa.array([{"bytes": images[number]} for number in picked], schemas.IMAGE),
            "depth": pa.array([depths[number] for number in picked], pa.binary()),
            "embedding": pa.FixedSizeListArray.from_arrays(vectors, DIM),
        }
        writer.write(shard, pa.table(columns))
    writer.finish()


def repeat(folder: Path, large: Path, shards: int) -> None:
    """A manifest of `shards` shards in `large`, each a link to one of those in `folder`."""
    manifest = json.loads((folder / MANIFEST).read_text())
    large.mkdir()
    files = []
    for shard in range(shards):
        file = manifest["files"][shard % len(manifest["files"])]
        os.link(folder / file["name"], large / f"part-{shard:05d}.parquet")
        files.append({**file, "name": f"part-{shard:05d}.parquet"})
    rows = sum(file["rows"] for file in files)
    (large / MANIFEST).write_text(json.dumps({**manifest, "files": files, "rows": rows}))


def start(folder: Path, position: int, batch_size: int, workers: int) -> tuple[float, ShardLoader]:
    """Seconds from the start to the first batch at `position`."""
    begin = time.perf_counter()
    loader = ShardLoader(folder, batch_size, 0, position=position, workers=workers)
    next(loader)
    return time.perf_counter() - begin, loader


def rates(loader: ShardLoader, batch_size: int, rows: int, turns: int) -> tuple[list[float], list[float], list[int]]:
    """Rows per second, CPU milliseconds per row and resident bytes of each of `turns` intervals of `rows` rows."""
    speed, cpu, memory = [], [], []
    for _ in range(turns):
        begin, spent = time.perf_counter(), time.process_time()
        for _ in islice(loader, rows // batch_size):
            pass
        speed.append(rows / (time.perf_counter() - begin))
        cpu.append(1e3 * (time.process_time() - spent) / rows)
        memory.append(resident())
    return speed, cpu, memory


def order_ms(shards: int) -> float:
    """Milliseconds to set up the order of `shards` shards and to locate one batch late in a run."""
    begin = time.perf_counter()
    SampleOrder([SHARD_ROWS] * shards, GROUP_ROWS, 0).places(10**9, 64)
    return 1e3 * (time.perf_counter() - begin)


def main() -> None:
    """Read the options, measure, print and append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoding", nargs="+", default=["webp", "png", "jpeg"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--turns", type=int, default=40, help="intervals of 256 rows")
    options = parser.parse_args()
    keep_freed_memory()
    file = RESULTS / "data.jsonl"
    for encoding in options.encoding:
        with tempfile.TemporaryDirectory() as place:
            small, large = Path(place) / "small", Path(place) / "large"
            training_shards(small, encoding)
            repeat(small, large, SHARDS)
            figures: dict[str, object] = {"encoding": encoding, "workers": options.workers, "batch": options.batch_size}
            figures["kB_a_row"] = (
                sum(f.stat().st_size for f in small.glob("*.parquet")) / REAL_SHARDS / SHARD_ROWS / 1e3
            )
            far = 123_456_789
            for name, folder, position in (("small", small, 0), ("large", large, 0), ("large, far", large, far)):
                first = []
                for _ in range(3):
                    seconds, loader = start(folder, position, options.batch_size, options.workers)
                    first.append(seconds)
                    loader.close()
                figures[f"first batch s, {name}"] = statistics.median(first)
            _, loader = start(large, 0, options.batch_size, options.workers)
            speed, cpu, memory = rates(loader, options.batch_size, INTERVAL, options.turns)
            loader.close()
            figures |= {
                "rows_s": max(speed),
                "rows_s_median": statistics.median(speed),
                "cpu_ms_a_row": min(cpu),
                "rows_s_by_cpu_time": 1e3 * options.workers / min(cpu),
                "resident_MB": [round(bytes_ / 1e6) for bytes_ in memory],
            }
        for key, value in figures.items():
            print(f"{key}: {value}", flush=True)
        append_row(file, {"benchmark": "loader", "rows": SHARDS * SHARD_ROWS, "shards": SHARDS, **figures})
    growth = {f"{shards} shards": order_ms(shards) for shards in (3, 30, 300, 3000)}
    print("order, ms:", growth)
    append_row(file, {"benchmark": "order", "ms": growth, "rows_per_shard": SHARD_ROWS})


if __name__ == "__main__":
    main()

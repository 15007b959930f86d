"""Peak memory of `select` and `shards` for data sets of growing size, each in a separate process.

    python benchmarks/data_memory.py

Memory is the peak resident set size of the process minus its value before the work began. Features have 2048 values, as
those of Inception. Appends a row to benchmarks/results/data.jsonl.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from threedgp.config import SelectConfig, ShardsConfig
from threedgp.data import schemas
from threedgp.data.selection import select_set
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.data.shuffle import JoinedShards, write_training_shards

DIM = 2048
SHARD_ROWS = 4096
ROW_BYTES = {"image": 63_000, "depth": 55_000}
"""Sizes of typical photographs of 256x256."""
SELECT = ((8_192, 8), (16_384, 16), (24_576, 24), (24_576, 1))
"""Number of images and of classes."""
SHUFFLE = (2, 4, 6)
"""Source shards of SHARD_ROWS // 4 rows."""


def vectors(random: np.random.Generator, count: int, dtype: type) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(random.normal(size=count * DIM).astype(dtype)), DIM)


def write_features(folder: Path, count: int, classes: int) -> None:
    """Random features in shards, ids in random order, so that every shard holds images of every class."""
    random = np.random.default_rng(0)
    numbers = random.permutation(count)
    writer = ShardWriter(folder, schemas.features(DIM), "features", {})
    for shard, start in enumerate(range(0, count, SHARD_ROWS)):
        rows = numbers[start : start + SHARD_ROWS]
        labels = pa.array(rows % classes)
        table = {"id": [f"{n:08d}" for n in rows], "label": labels, "feature": vectors(random, len(rows), np.float32)}
        writer.write(shard, pa.table(table))
    writer.finish()


def write_inputs(place: Path, shards: int) -> None:
    """Write the outputs of `prepare`, `select`, `depth` and `embed`: `shards` shards of incompressible bytes."""
    random = np.random.default_rng(0)
    rows = SHARD_ROWS // 4
    about = {"class_names": ["one"], "resolution": 256}
    writers = [
        ShardWriter(place / "prepared", schemas.PREPARED, "prepared", about),
        ShardWriter(place / "depth", schemas.DEPTH, "depth", {"estimator": "synthetic"}),
        ShardWriter(place / "embed", schemas.embed(DIM), "embed", {"embedder": "net", "embedding_dim": DIM}),
    ]
    selected = ShardWriter(place / "selected", schemas.SELECTED, "selected", {}, part_name="ids.parquet")
    ids = pa.array([f"{n:08d}" for n in range(shards * rows)])
    labels = pa.array(np.zeros(len(ids), np.int64))
    selected.write(0, pa.table({"id": ids, "label": labels}))
    selected.finish()
    for shard in range(shards):
        mine = {"id": ids[shard * rows : (shard + 1) * rows]}
        noise = {name: pa.array([random.bytes(size) for _ in range(rows)]) for name, size in ROW_BYTES.items()}
        crop = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(4 * rows, np.int32)), 4)
        image = pa.StructArray.from_arrays([noise["image"], pa.nulls(rows, pa.string())], fields=[*schemas.IMAGE])
        label = {"label": labels[shard * rows : (shard + 1) * rows]}
        writers[0].write(shard, pa.table({**mine, **label, "image": image, "crop": crop}))
        writers[1].write(shard, pa.table({**mine, "depth": noise["depth"]}))
        writers[2].write(shard, pa.table({**mine, "embedding": vectors(random, rows, np.float16)}))
    writers[0].finish()
    writers[1].finish(rejects=0)
    writers[2].finish()


def select(place: Path) -> None:
    select_set(ShardFolder(place / "features"), place / "out/selected", SelectConfig())


def shuffle(place: Path) -> None:
    joined = JoinedShards(*(ShardFolder(place / name) for name in ("prepared", "selected", "depth", "embed")))
    write_training_shards(joined, place / "out/shards", ShardsConfig(rows_per_shard=SHARD_ROWS // 4), "bench")


def run_separately(work: str, place: Path) -> dict[str, float]:
    """Peak memory in MB and seconds of `work`, in a new process."""
    done = subprocess.run(
        [sys.executable, __file__, "--alone", work, str(place)], stdout=subprocess.PIPE, text=True, check=True
    )
    peak, seconds = done.stdout.split()[-2:]
    return {"peak_MB": float(peak), "seconds": float(seconds)}


def peak_mb() -> float:
    """Peak resident memory of this process; getrusage would return that of the parent if it is larger."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def main() -> None:
    """Read the options, measure, print and append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--alone", nargs=2, metavar=("WORK", "PLACE"), help="do one piece of work and print its memory and time"
    )
    options = parser.parse_args()
    if options.alone:
        before, start = peak_mb(), time.perf_counter()
        {"select": select, "shuffle": shuffle}[options.alone[0]](Path(options.alone[1]))
        print(peak_mb() - before, time.perf_counter() - start)
        return
    from measuring import RESULTS, append_row  # imports PyTorch, whose memory must not count

    found: dict[str, dict[str, dict[str, float]]] = {"select": {}, "shuffle": {}}
    for count, classes in SELECT:
        with tempfile.TemporaryDirectory() as place:
            write_features(Path(place) / "features", count, classes)
            found["select"][f"{count} x {DIM}, {classes} classes"] = run_separately("select", Path(place))
    for shards in SHUFFLE:
        with tempfile.TemporaryDirectory() as place:
            write_inputs(Path(place), shards)
            found["shuffle"][f"{shards} shards"] = run_separately("shuffle", Path(place))
    found["shuffle"]["shard"] = {"MB": SHARD_ROWS // 4 * (sum(ROW_BYTES.values()) + 2 * DIM) / 1e6}
    for work, cases in found.items():
        for case, figures in cases.items():
            print(work, case, {key: round(value, 1) for key, value in figures.items()})
    append_row(RESULTS / "data.jsonl", {"benchmark": "memory", **found})


if __name__ == "__main__":
    main()

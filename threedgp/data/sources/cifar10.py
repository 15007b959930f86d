"""Source `cifar10`: the training images of CIFAR-10 (Krizhevsky 2009), from its archive for C programs.

Each of the five batches is a file of 10,000 records: a byte with the class, then 32 x 32 pixels, channel by channel.
The raw shards hold the images of `dataset.subset`.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from threedgp.config import Config, MachineConfig
from threedgp.data.images import decode_image, encode_image
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.data.source import Contents, Published, RawPicture, SourceKind
from threedgp.fetch.download import download as download_file
from threedgp.fetch.remote import Remote, mismatch
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import progress

ARCHIVE = Remote(
    "cifar-10-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    checksum="md5:c32a1d4ab5d03f1284b67883e8d87530",
)
MEMBERS = [f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)]
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SUBSETS = {
    "all": CLASSES,
    "animals": ("bird", "cat", "deer", "dog", "frog", "horse"),
    "horse_dog": ("horse", "dog"),
}
IMAGES_PER_CLASS = 5000
BATCH_ROWS, RECORD_BYTES, SIZE = 10_000, 3073, 32
NUM_BYTES = 170_000_000
"""Of the archive, about."""
PUBLISHED = {
    name: Published(ARCHIVE.url, IMAGES_PER_CLASS * len(classes), len(classes), NUM_BYTES)
    for name, classes in SUBSETS.items()
}
GROUP_ROWS = 500
RAW = pa.schema([("id", pa.string()), ("label", pa.int32()), ("image", pa.binary())])  # PNG


def download(config: Config, path: Path | None, folder: Path) -> None:
    """Write the images of the subset to shards in `folder`, a shard per batch; finished shards are kept.

    Raises:
        UserError: the archive cannot be downloaded, or what lies at `path` is not the archive.
    """
    archive, subset = _archive(path, folder, config.machine), config.dataset.subset
    class_names = list(SUBSETS[subset])
    meta = {"source": "cifar10", "subset": subset, "class_names": class_names}
    writer = ShardWriter(folder, RAW, "raw", meta, row_group_rows=GROUP_ROWS)
    with progress("download", len(MEMBERS) * BATCH_ROWS) as bar:
        for number, records in enumerate(_batches(archive)):
            if not writer.done(number):
                writer.write(number, _table(records, number, class_names))
            bar.advance(BATCH_ROWS)
    writer.finish()


def instructions(subset: str) -> str:
    """How to get the images by hand."""
    return f"download {ARCHIVE.url} (170 MB) and set dataset.path to it, or set dataset.path to null"


def contents(path: Path, subset: str) -> Contents:
    """Size of the archive at `path`.

    Raises:
        UserError: there is none.
    """
    return Contents(_find(path, subset).stat().st_size, PUBLISHED[subset].num_images)


def _find(path: Path, subset: str) -> Path:
    file = path / ARCHIVE.name if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"dataset.path: {file} does not exist; {instructions(subset)}.")
    return file


def _archive(path: Path | None, folder: Path, machine: MachineConfig) -> Path:
    """The archive, verified."""
    if path is None:
        return download_file(ARCHIVE, folder.with_name("downloads"), title="download", mirror=machine.mirror)
    file = _find(path, "all")
    if problem := mismatch(ARCHIVE, file):
        raise UserError(f"{file}: {problem}; it is not CIFAR-10's archive for C programs, or it is damaged.")
    return file


def _batches(archive: Path) -> Iterator[NDArray[np.uint8]]:
    """Records uint8 `[10000, 3073]` of every batch, in the order of their numbers."""
    with tarfile.open(archive, "r:gz") as members:
        for name in MEMBERS:
            data = members.extractfile(name).read()
            yield np.frombuffer(data, np.uint8).reshape(BATCH_ROWS, RECORD_BYTES)


def _table(records: NDArray[np.uint8], batch: int, class_names: list[str]) -> pa.Table:
    """The images of the named classes."""
    rows = []
    for index, record in enumerate(records):
        name = CLASSES[record[0]]
        if name in class_names:
            rgb = record[1:].reshape(3, SIZE, SIZE).transpose(1, 2, 0)
            image = encode_image(np.ascontiguousarray(rgb), "png")
            rows.append({"id": f"{batch}-{index:04d}", "label": class_names.index(name), "image": image})
    return pa.Table.from_pylist(rows, RAW)


class Cifar10Source:
    """Reads the stored images."""

    name = "cifar10"

    def __init__(self, shards: ShardFolder) -> None:
        self.class_names: list[str] = shards.meta["class_names"]
        self._shards = shards

    def entries(self) -> pa.Table:
        """Columns `id` and `label`, and `shard` and `row`, where the image is stored."""
        tables = []
        for shard, table in enumerate(self._shards.iterate(["id", "label"])):
            places = {"shard": pa.repeat(shard, len(table)), "row": pa.array(range(len(table)))}
            tables.append(pa.table({**dict(zip(table.column_names, table.columns, strict=True)), **places}))
        return pa.concat_tables(tables)

    def read(self, entries: pa.Table) -> Iterator[RawPicture]:
        """The images of some rows of `entries()`."""
        group, images = None, None
        for row in entries.to_pylist():
            place = row["shard"], row["row"] // GROUP_ROWS
            if place != group:
                group, images = place, self._shards.read_group(*place, ["image"])["image"]
            rgb = decode_image(images[row["row"] % GROUP_ROWS].as_py())
            yield RawPicture(row["id"], row["label"], rgb)


SOURCE = SourceKind(
    download=download,
    open=lambda shards, path, raw: Cifar10Source(shards),
    published=PUBLISHED,
    instructions=instructions,
    contents=contents,
)

"""Source `cifar10`: the training images of CIFAR-10 (Krizhevsky 2009), from its archive for C programs.

Each of the five batches is a file of 10,000 records: a byte with the class, then 32 x 32 pixels, channel by channel.
The raw shards hold the images of `dataset.subset`.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from threedgp.config import Config, MachineConfig
from threedgp.data.archives.listing import StoredSource, list_parts
from threedgp.data.images import decode_image, encode_image
from threedgp.data.source import Contents, Published, RawPicture, SourceKind
from threedgp.fetch.download import download as download_file
from threedgp.fetch.remote import Remote, mismatch
from threedgp.runtime.errors import UserError

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
"""Approximate size of the archive."""
PUBLISHED = {
    name: Published(ARCHIVE.url, IMAGES_PER_CLASS * len(classes), len(classes), NUM_BYTES)
    for name, classes in SUBSETS.items()
}
GROUP_ROWS = 500
RAW = pa.schema([("id", pa.string()), ("label", pa.int32()), ("image", pa.binary())])  # PNG


def download(config: Config, path: Path | None, folder: Path) -> None:
    """Write the images of the subset to shards in `folder`, a shard per batch; finished shards are kept."""
    archive, subset = _archive(path, folder, config.machine), config.dataset.subset
    class_names = list(SUBSETS[subset])
    meta = {"source": "cifar10", "subset": subset, "class_names": class_names}
    sizes = {"unit": "batches", "workers": config.machine.workers, "shard_parts": 1, "group_rows": GROUP_ROWS}
    list_parts(folder, len(MEMBERS), lambda number: _batch(archive, number, class_names), RAW, meta, **sizes).finish()


def instructions(subset: str) -> str:
    """How to get the images by hand, and what to set `dataset.path` to."""
    return f"download {ARCHIVE.url} (170 MB) and set dataset.path to it, or set dataset.path to null"


def contents(path: Path, subset: str) -> Contents:
    """Size of the archive at `path`."""
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


def _batch(archive: Path, number: int, class_names: list[str]) -> pa.Table:
    """The images of the named classes in a batch."""
    with tarfile.open(archive, "r:gz") as members:
        data = members.extractfile(MEMBERS[number]).read()
    rows = []
    for index, record in enumerate(np.frombuffer(data, np.uint8).reshape(BATCH_ROWS, RECORD_BYTES)):
        name = CLASSES[record[0]]
        if name in class_names:
            rgb = record[1:].reshape(3, SIZE, SIZE).transpose(1, 2, 0)
            image = encode_image(np.ascontiguousarray(rgb), "png")
            rows.append({"id": f"{number}-{index:04d}", "label": class_names.index(name), "image": image})
    return pa.Table.from_pylist(rows, RAW)


def _picture(row: dict[str, Any]) -> RawPicture:
    return RawPicture(row["id"], row["label"], decode_image(row["image"]))


SOURCE = SourceKind(
    download=download,
    open=lambda shards, path, raw: StoredSource("cifar10", shards, _picture),
    published=PUBLISHED,
    instructions=instructions,
    contents=contents,
)

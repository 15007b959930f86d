"""Parquet files with a column of encoded images, as data sets of images on the Hugging Face hub have.

They need a column `image` (or a single column of its type), either `struct<bytes: binary, path: string>` or binary. An
integer column `label` is the class; a column `bounding_box` or `box` of four numbers is what to cut out, as
`boxes.Box`. Class names are read from the metadata that `datasets` writes.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from threedgp.data.archives.listing import MAX_CLASSES, list_parts
from threedgp.data.archives.pictures import BadPicture, check_size
from threedgp.data.archives.references import Reference, check_unchanged
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.data.source import Contents
from threedgp.fetch.hub import download_dataset
from threedgp.runtime.errors import UserError

ROWS = pa.schema(
    [
        ("id", pa.string()),  # sorts in the order of files and rows
        ("label", pa.int32()),
        ("problem", pa.string()),  # why the image must be left out, or null
        ("file", pa.int32()),  # number of the file
        ("row", pa.int32()),  # in the file
        ("box", pa.list_(pa.int32())),  # what to cut out, or null
    ]
)
BOX_COLUMNS = ("bounding_box", "box")
MAX_CACHED_BYTES = 2**29
"""Row groups that are kept in memory; the newest one is kept whatever its size."""


def find_parquet(folder: Path) -> list[str]:
    """The Parquet files of a data set in `folder`, or else in its subfolder `data`, in their order.

    Where files are named for splits, only the training split counts.

    Raises:
        UserError: some of a numbered set of files are missing.
    """
    found = list(folder.glob("*.parquet")) or list(folder.glob("data/*.parquet"))
    return training_split([file.relative_to(folder).as_posix() for file in found], str(folder))


def training_split(names: Sequence[str], where: str) -> list[str]:
    """Those of the file names that begin with `train`, or all of them if none does.

    Raises:
        UserError: files are numbered (`train-00003-of-00294`) and some are missing; `where` is their place.
    """
    chosen = [name for name in names if Path(name).name.startswith("train")] or list(names)
    numbers = [re.search(r"-(\d+)-of-(\d+)", Path(name).name) for name in chosen]
    totals = {int(number[2]) for number in numbers if number}
    for total in totals:
        missing = sorted(set(range(total)) - {int(number[1]) for number in numbers if number})
        if missing:
            raise UserError(
                f"{where}: {len(missing)} of {total} Parquet files are missing, the first is number {missing[0]:05d}; "
                "download the rest."
            )
    return sorted(chosen, key=_stem)


def _stem(name: str) -> str:
    """Prefix of the ids of a file; files are sorted by it, so that the ids of all are sorted."""
    return name.removesuffix(".parquet") + "/"


def download_parquet(repo: str, folder: Path, mirror: str | None) -> tuple[Path, list[Reference]]:
    """Download the training split of a repository of the hub into `folder`.

    Returns:
        the folder of the repository below `folder`, and the files in it.

    Raises:
        UserError: it cannot be downloaded, or has no Parquet files.
    """

    def choose(names: Sequence[str]) -> list[str]:
        return training_split([name for name in names if name.endswith(".parquet")], repo)

    files = download_dataset(repo, folder / repo, choose, mirror=mirror)
    if not files:
        raise UserError(f"{repo}: the repository on the hub has no Parquet files; set dataset.path to others.")
    return folder / repo, [{"name": file.name, "size": file.size, "checksum": file.checksum or ""} for file in files]


def contents(folder: Path) -> Contents | None:
    """Size and number of rows of the files that `find_parquet` finds; None if there are none."""
    files = [folder / name for name in find_parquet(folder)]
    if not files:
        return None
    return Contents(sum(file.stat().st_size for file in files), sum(_open(file).metadata.num_rows for file in files))


def class_names(file: Path) -> list[str]:
    """Names of the classes, from the metadata of a Parquet file; empty if it has none."""
    metadata = _open(file).schema_arrow.metadata or {}
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"]["label"]["names"]
        return [str(name) for name in names]
    except (KeyError, TypeError, ValueError):
        return []


def list_files(
    root: Path, files: list[Reference], folder: Path, meta: dict[str, Any], workers: int, *, labelled: bool = True
) -> ShardWriter:
    """List the rows of `files` below `root` in `folder`, for `open_listed`.

    Args:
        meta: for the manifest.
        labelled: whether a column `label` counts; otherwise all images are of class 0.

    Returns:
        the writer, whose manifest is still to be written.

    Raises:
        UserError: a file is damaged or has no images.
    """
    names = [str(file["name"]) for file in files]
    inside = root.relative_to(folder).as_posix() if root.is_relative_to(folder) else None
    meta = {**meta, "inside": inside, "files": files}

    def list_file(number: int) -> pa.Table:
        return _list_rows(root / names[number], _stem(names[number]), number, labelled)

    return list_parts(folder, len(names), list_file, ROWS, meta, unit="files", workers=workers)


def open_listed(shards: ShardFolder, path: Path | None, raw: Path) -> ParquetStore:
    """The files that `list_files` has listed in the folder `raw`, below `path` or in `raw` itself.

    Raises:
        UserError: a file has changed since then.
    """
    inside, files = shards.meta["inside"], shards.meta["files"]
    root = path if inside is None else raw / inside
    check_unchanged(root, files)
    return ParquetStore(root, [file["name"] for file in files])


def _list_rows(path: Path, stem: str, number: int, labelled: bool) -> pa.Table:
    """Rows of file `number` with the schema ROWS; no image is read."""
    opened = _open(path)
    _image_column(opened.schema_arrow, path)
    columns = [name for name in ("label", *BOX_COLUMNS) if name in opened.schema_arrow.names]
    count = opened.metadata.num_rows
    box_column = next((name for name in BOX_COLUMNS if name in columns), None)
    boxes, labels = pa.nulls(count, ROWS.field("box").type), pa.array(np.zeros(count, np.int64))
    try:
        table = opened.read(columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None
    if labelled and "label" in columns:
        labels = _integers(table["label"], path)
    if box_column:
        boxes = _boxes(table[box_column], path)
    wrong = pc.fill_null(pc.or_(pc.less(labels, 0), pc.greater_equal(labels, MAX_CLASSES)), True)
    return pa.table(
        {
            "id": pa.array([f"{stem}{row:07d}" for row in range(count)], pa.string()),
            "label": pc.if_else(wrong, 0, labels).cast(pa.int32()),
            "problem": pc.if_else(wrong, "has no label", pa.scalar(None, pa.string())),
            "file": np.full(count, number, np.int32),
            "row": np.arange(count, dtype=np.int32),
            "box": boxes,
        },
        ROWS,
    )


def _integers(column: pa.ChunkedArray, path: Path) -> pa.ChunkedArray:
    try:
        return column.cast(pa.int64())
    except pa.ArrowException:
        raise UserError(f"{path}: column 'label' holds {column.type}, not class numbers.") from None


def _boxes(column: pa.ChunkedArray, path: Path) -> pa.Array:
    """Four integers each; fractions are rounded, and invalid numbers become a box that fits no image."""
    try:
        lists = column.cast(pa.list_(pa.float64())).combine_chunks()
    except pa.ArrowException:
        raise UserError(f"{path}: a column of boxes holds {column.type}, not [top, bottom, left, right].") from None
    edges = pc.round(lists.flatten())
    valid = pc.and_(pc.is_finite(edges), pc.less(pc.abs(edges), 2**31))
    integers = pc.if_else(valid, edges, None).cast(pa.int32())
    offsets = np.concatenate([[0], np.cumsum(pc.fill_null(pc.list_value_length(lists), 0))]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, integers, mask=lists.is_null())


class ParquetStore:
    """Images in Parquet files, found by the columns `file` and `row` of the schema ROWS.

    Whole row groups are read, and the newest ones cached, because several threads ask for neighboring rows.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self._paths = [root / name for name in names]
        self._footers: dict[int, pq.FileMetaData] = {}
        self._starts: dict[int, np.ndarray] = {}
        self._groups: OrderedDict[tuple[int, int], pa.ChunkedArray] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, entries: pa.Table) -> Iterator[bytes | BadPicture]:
        places = zip(entries["file"].to_pylist(), entries["row"].to_pylist(), strict=True)
        for number, rows in groupby(places, key=lambda place: place[0]):
            starts = self._group_starts(number)
            for _, row in rows:
                group = int(np.searchsorted(starts, row, side="right")) - 1
                data = self._group(number, group)[row - starts[group]].as_py()
                yield BadPicture("the row holds no picture") if data is None else check_size(len(data)) or data

    def _group_starts(self, number: int) -> np.ndarray:
        """Number of the first row of each row group, and of all rows."""
        with self._lock:
            if number not in self._starts:
                self._footers[number] = footer = _open(self._paths[number]).metadata
                sizes = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
                self._starts[number] = np.cumsum([0, *sizes])
            return self._starts[number]

    def _group(self, number: int, group: int) -> pa.ChunkedArray:
        # One thread reads at a time: the others mostly want the same rows.
        with self._lock:
            images = self._groups.get((number, group))
            if images is None:
                images = _read_images(self._paths[number], self._footers[number], group)
                self._groups[number, group] = images
                while len(self._groups) > 1 and sum(one.nbytes for one in self._groups.values()) > MAX_CACHED_BYTES:
                    self._groups.popitem(last=False)
            self._groups.move_to_end((number, group))
            return images


def _image_column(schema: pa.Schema, path: Path) -> str:
    """Dotted name of the column that holds the bytes of the images.

    Raises:
        UserError: there is none, or more than one.
    """
    found = {}
    for field in schema:
        if pa.types.is_struct(field.type) and any(child.name == "bytes" for child in field.type):
            found[field.name] = f"{field.name}.bytes"
        elif pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            found[field.name] = field.name
    if "image" in found:
        return found["image"]
    if len(found) != 1:
        raise UserError(f"{path}: no column 'image' with encoded images among {', '.join(schema.names)}.")
    return next(iter(found.values()))


def _read_images(path: Path, footer: pq.FileMetaData, group: int) -> pa.ChunkedArray:
    try:
        opened = pq.ParquetFile(path, metadata=footer)
        column = _image_column(opened.schema_arrow, path)
        images = opened.read_row_group(group, columns=[column], use_threads=False).column(0)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None
    return pc.struct_field(images, "bytes") if pa.types.is_struct(images.type) else images


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError(f"{path}: is not a Parquet file, or is damaged ({reason}); download it again.")

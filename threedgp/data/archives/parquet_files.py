"""Parquet files with a column of encoded pictures, as the Hugging Face hub holds data sets of pictures.

Assumed: a column `image` (or the only one of its kind), either `struct<bytes: binary, path: string>` or binary. A
column `label` of whole numbers is the class; a column `bounding_box` or `box` of four numbers is what is to be cut out,
as `boxes.Box`. Names of the classes are in the metadata that the hub's `datasets` writes, if it wrote the file.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from threedgp.data.archives.listing import MOST_CLASSES
from threedgp.data.archives.pictures import LARGEST_FILE, BadPicture
from threedgp.data.archives.references import Reference
from threedgp.data.source import Contents
from threedgp.fetch.hub import download_dataset
from threedgp.runtime.errors import UserError

ROWS = pa.schema(
    [
        ("id", pa.string()),  # sorts in the order of files and rows
        ("label", pa.int32()),
        ("problem", pa.string()),  # why the picture must be left out, or null
        ("file", pa.int32()),  # number of the file
        ("row", pa.int32()),  # in the file
        ("box", pa.list_(pa.int32())),  # what is to be cut out, or null
    ]
)
BOX_COLUMNS = ("bounding_box", "box")
CACHED_BYTES = 2**29
"""Of row groups in memory; the newest one stays whatever its size."""


def find_parquet(folder: Path) -> list[str]:
    """The Parquet files of a data set in `folder`, or else in its subfolder `data`, in their order.

    Where files are named for splits, only the training split counts.

    Raises:
        UserError: some of a numbered set of files are missing.
    """
    found = list(folder.glob("*.parquet")) or list(folder.glob("data/*.parquet"))
    return training_split([file.relative_to(folder).as_posix() for file in found], str(folder))


def contents(folder: Path) -> Contents | None:
    """Size and number of rows of the files that `find_parquet` finds; None if there are none."""
    files = [folder / name for name in find_parquet(folder)]
    if not files:
        return None
    return Contents(sum(file.stat().st_size for file in files), sum(_open(file).metadata.num_rows for file in files))


def download_parquet(repo: str, folder: Path, mirror: str | None) -> tuple[Path, list[Reference]]:
    """Download the training split of a repository of the hub into `folder`.

    Returns:
        the folder of the repository below `folder`, and the files in it.

    Raises:
        UserError: it cannot be downloaded, or holds no Parquet files.
    """

    def choose(names: Sequence[str]) -> list[str]:
        return training_split([name for name in names if name.endswith(".parquet")], repo)

    files = download_dataset(repo, folder / repo, choose, mirror=mirror)
    if not files:
        raise UserError(f"{repo}: the repository on the hub holds no Parquet files; set dataset.path to others.")
    checksums = [f"sha256:{file.sha256}" if file.sha256 else "" for file in files]
    return folder / repo, [
        {"name": file.name, "size": file.size, "checksum": checksum}
        for file, checksum in zip(files, checksums, strict=True)
    ]


def training_split(names: Sequence[str], where: str) -> list[str]:
    """Those of the file names that begin with `train`, or all of them if none does.

    Raises:
        UserError: files are numbered (`train-00003-of-00294`) and not all are there; `where` is their place.
    """
    chosen = [name for name in names if Path(name).name.startswith("train")] or list(names)
    numbers = [re.search(r"-(\d+)-of-(\d+)", Path(name).name) for name in chosen]
    totals = {int(number[2]) for number in numbers if number}
    for total in totals:
        missing = sorted(set(range(total)) - {int(number[1]) for number in numbers if number})
        if missing:
            raise UserError(
                f"{where}: {len(missing)} of {total} Parquet files are missing, the first is number {missing[0]:05d}; "
                "fetch the rest."
            )
    return sorted(chosen, key=_stem)


def _stem(name: str) -> str:
    """What the ids of a file begin with; files are in the order of it, so that the ids of all are sorted."""
    return name.removesuffix(".parquet") + "/"


def class_names(file: Path) -> list[str]:
    """Names of the classes, from the metadata of a Parquet file; none if it has none."""
    metadata = _open(file).schema_arrow.metadata or {}
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"]["label"]["names"]
        return [str(name) for name in names]
    except (KeyError, TypeError, ValueError):
        return []


def list_rows(root: Path, names: Sequence[str], number: int, *, labelled: bool = True) -> pa.Table:
    """Rows of file `number` with the schema ROWS; no picture is read.

    Args:
        labelled: whether a column `label` counts; else all pictures are of one class.

    Raises:
        UserError: it is no Parquet file, is damaged, or holds no pictures.
    """
    path = root / names[number]
    opened = _open(path)
    picture_column(opened.schema_arrow, path)
    columns = [name for name in ("label", *BOX_COLUMNS) if name in opened.schema_arrow.names]
    count = opened.metadata.num_rows
    box_column = next((name for name in BOX_COLUMNS if name in columns), None)
    boxes, labels = pa.nulls(count, ROWS.field("box").type), pa.array(np.zeros(count, np.int64))
    try:
        table = opened.read(columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None
    if labelled and "label" in columns:
        labels = _whole_numbers(table["label"], path)
    if box_column:
        boxes = _boxes(table[box_column], path)
    wrong = pc.fill_null(pc.or_(pc.less(labels, 0), pc.greater_equal(labels, MOST_CLASSES)), True)
    stem = _stem(names[number])
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


def _whole_numbers(column: pa.ChunkedArray, path: Path) -> pa.ChunkedArray:
    try:
        return column.cast(pa.int64())
    except pa.ArrowException:
        raise UserError(f"{path}: column 'label' holds {column.type}, not the numbers of the classes.") from None


def _boxes(column: pa.ChunkedArray, path: Path) -> pa.Array:
    """Four whole numbers each; fractions are rounded, and what is no number becomes a box that fits no picture."""
    kind = column.type
    try:
        lists = column.cast(pa.list_(pa.float64())).combine_chunks()
    except pa.ArrowException:
        raise UserError(f"{path}: a column of boxes holds {kind}, not [top, bottom, left, right].") from None
    edges = pc.round(lists.flatten())
    inside = pc.and_(pc.is_finite(edges), pc.less(pc.abs(edges), 2**31))
    whole = pc.if_else(inside, edges, None).cast(pa.int32())
    offsets = np.concatenate([[0], np.cumsum(pc.fill_null(pc.list_value_length(lists), 0))]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, whole, mask=lists.is_null())


class ParquetStore:
    """Pictures in Parquet files, found by the columns `file` and `row` of the schema ROWS.

    Whole row groups are read, and the newest ones kept, for neighboring rows are asked for by several threads.
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
            for row in (row for _, row in rows):
                group = int(np.searchsorted(self._group_starts(number), row, side="right")) - 1
                data = self._group(number, group)[row - self._starts[number][group]]
                yield self._checked(data.as_py())

    @staticmethod
    def _checked(data: bytes | None) -> bytes | BadPicture:
        if data is None:
            return BadPicture("the row holds no picture")
        if len(data) > LARGEST_FILE:
            return BadPicture(f"the file has {len(data)} bytes, more than the limit of {LARGEST_FILE}")
        return data

    def _group_starts(self, number: int) -> np.ndarray:
        """Number of the first row of each row group, and of all rows."""
        with self._lock:
            if number not in self._starts:
                self._footers[number] = footer = _open(self._paths[number]).metadata
                sizes = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
                self._starts[number] = np.cumsum([0, *sizes])
            return self._starts[number]

    def _group(self, number: int, group: int) -> pa.ChunkedArray:
        # One thread reads at a time: the others mostly want the same rows, and a disk likes it.
        with self._lock:
            pictures = self._groups.get((number, group))
            if pictures is None:
                pictures = _read_pictures(self._paths[number], self._footers[number], group)
                self._groups[number, group] = pictures
                while len(self._groups) > 1 and sum(one.nbytes for one in self._groups.values()) > CACHED_BYTES:
                    self._groups.popitem(last=False)
            self._groups.move_to_end((number, group))
            return pictures


def picture_column(schema: pa.Schema, path: Path) -> str:
    """Dotted name of the column that holds the bytes of the pictures.

    Raises:
        UserError: none does, or more than one might.
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
        raise UserError(f"{path}: no column 'image' with encoded pictures among {', '.join(schema.names)}.")
    return next(iter(found.values()))


def _read_pictures(path: Path, footer: pq.FileMetaData, group: int) -> pa.ChunkedArray:
    try:
        opened = pq.ParquetFile(path, metadata=footer)
        column = picture_column(opened.schema_arrow, path)
        pictures = opened.read_row_group(group, columns=[column], use_threads=False).column(0)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None
    return pc.struct_field(pictures, "bytes") if pa.types.is_struct(pictures.type) else pictures


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError(f"{path}: is no Parquet file, or damaged ({reason}); fetch it again.")

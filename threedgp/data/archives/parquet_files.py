"""Parquet files with a column of encoded images, as data sets of images on the Hugging Face hub have.

They need a column `image` (or a single column of its type), either `struct<bytes: binary, path: string>` or binary. An
integer column `label` is the class; a column `bounding_box` or `box` of four numbers is what to cut out, as
`boxes.Box`. Class names are read from the metadata that `datasets` writes.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from threedgp.config.fields import MAX_CLASSES
from threedgp.data.archives.boxes import Box, parse_box
from threedgp.data.archives.listing import SINGLE_CLASS, list_parts
from threedgp.data.archives.pictures import BadPicture, check_size
from threedgp.data.archives.references import Reference, check_unchanged
from threedgp.data.shards import ShardFolder, ShardWriter, read_groups
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
NO_LABEL = "has no label"
CACHED_BYTES = 512 * 2**20
"""Row groups that are kept in memory, beyond the newest one; those of the hub hold 100 images."""
MIN_ROW_BYTES = 8
"""Minimum size of a file for each row that it claims to have, since a list of its rows must fit in memory."""


def find_parquet(folder: Path) -> list[str]:
    """The Parquet files of a data set in `folder`, or else in its subfolder `data`, in their order.

    Where files are named for splits, only the training split counts.

    Raises:
        UserError: some of a numbered set of files are missing.
    """
    found = list(folder.glob("*.parquet")) or list(folder.glob("data/*.parquet"))
    return training_split([file.relative_to(folder).as_posix() for file in found], str(folder))


def training_split(names: Sequence[str], where: str) -> list[str]:
    """Those of the files whose name or folder begins with `train`, or all of them if none does.

    Raises:
        UserError: files are numbered (`train-00003-of-00294`) and some are missing; `where` is their place.
    """
    in_files = [name for name in names if Path(name).name.startswith("train")]
    in_folders = [name for name in names if any(part.startswith("train") for part in Path(name).parts)]
    chosen = in_files or in_folders or list(names)
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


def count_classes(folder: Path) -> dict[str, int]:
    """Number of images by class, of the files that `find_parquet` finds; images without a class do not count."""
    files = [folder / name for name in find_parquet(folder)]
    counts: Counter[int] = Counter()
    for file in files:
        rows = _list_rows(file, "", 0, labelled=True)
        counts.update(rows["label"].filter(rows["problem"].is_null()).to_pylist())
    names = class_names(files[0], 1 + max(counts, default=0))
    return {names[label]: counts[label] for label in sorted(counts)}


def class_names(file: Path, count: int) -> list[str]:
    """Names of at least `count` classes, from the metadata of a Parquet file, or else their numbers; a single class is
    called `all`."""
    names: list[str] = []
    metadata = _open(file).schema_arrow.metadata or {}
    with suppress(KeyError, TypeError, ValueError, RecursionError):
        names = [str(name) for name in json.loads(metadata[b"huggingface"])["info"]["features"]["label"]["names"]]
    if len(names) >= count:
        return names
    return [str(label) for label in range(count)] if count > 1 else [SINGLE_CLASS]


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


def list_labelled(root: Path, files: list[Reference], folder: Path, meta: dict[str, Any], workers: int) -> None:
    """List the rows of `files` in `folder` with their classes, and write the manifest; arguments as in `list_files`.

    Classes are named by the metadata of the files, or else by their numbers; a single one is called `all`.
    """
    writer = list_files(root, files, folder, meta, workers)
    labels = (pq.read_table(part, columns=["label"])["label"] for part in folder.glob("part-*.parquet"))
    count = 1 + max(pc.max(column).as_py() or 0 for column in labels)
    writer.finish(class_names=class_names(root / str(files[0]["name"]), count))


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
    with _named(path):
        _image_column(opened.schema_arrow, path)
        columns = [name for name in ("label", *BOX_COLUMNS) if name in opened.schema_arrow.names]
        table = opened.read(columns=columns, use_threads=False)
        count = opened.metadata.num_rows
        if any(len(column) != count for column in table.columns):
            raise ValueError("its columns have different lengths")
        labels, boxes = pa.array(np.zeros(count, np.int64)), pa.nulls(count, ROWS.field("box").type)
        if labelled and "label" in columns:
            try:
                labels = table["label"].cast(pa.int64())
            except pa.ArrowException:
                raise UserError(f"{path}: column 'label' holds {table['label'].type}, not class numbers.") from None
        for name in (name for name in BOX_COLUMNS if name in columns):
            try:
                boxes = pa.array([box and _box(box) for box in table[name].to_pylist()], ROWS.field("box").type)
            except TypeError:
                message = f"a column of boxes holds {table[name].type}, not [top, bottom, left, right]"
                raise UserError(f"{path}: {message}.") from None
        wrong = pc.fill_null(pc.or_(pc.less(labels, 0), pc.greater_equal(labels, MAX_CLASSES)), True)
        return pa.table(
            {
                "id": pa.array([f"{stem}{row:07d}" for row in range(count)], pa.string()),
                "label": pc.if_else(wrong, 0, labels).cast(pa.int32()),
                "problem": pc.if_else(wrong, NO_LABEL, pa.scalar(None, pa.string())),
                "file": np.full(count, number, np.int32),
                "row": np.arange(count, dtype=np.int32),
                "box": boxes,
            },
            ROWS,
        )


def _box(edges: list[float]) -> Box:
    """`edges` as a box; an invalid one becomes a box that fits no image, so that only its image is left out."""
    try:
        return parse_box(edges)
    except ValueError:
        return []


class ParquetStore:
    """Images in Parquet files, found by the columns `file` and `row` of the schema ROWS.

    Whole row groups are read, and the newest ones cached, because several threads ask for neighboring rows.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self._paths = [root / name for name in names]
        # One thread reads at a time: the others mostly want the same rows.
        self._lock = threading.Lock()
        self._file = lru_cache(maxsize=None)(self._open_file)
        self._groups: dict[tuple[int, int], pa.ChunkedArray] = {}  # the newest last

    def load(self, entries: pa.Table) -> Iterator[bytes | BadPicture]:
        for number, row in zip(entries["file"].to_pylist(), entries["row"].to_pylist(), strict=True):
            with self._lock, _named(self._paths[number]):
                starts = self._file(number)[1]
                group = int(np.searchsorted(starts, row, side="right")) - 1
                data = self._group(number, group)[row - starts[group]].as_py()
            yield BadPicture("the row holds no image") if data is None else check_size(len(data)) or data

    def _open_file(self, number: int) -> tuple[pq.ParquetFile, np.ndarray]:
        """File `number`, and the numbers of the first rows of its row groups."""
        opened = _open(self._paths[number])
        sizes = [opened.metadata.row_group(group).num_rows for group in range(opened.metadata.num_row_groups)]
        return opened, np.cumsum([0, *sizes])

    def _group(self, number: int, group: int) -> pa.ChunkedArray:
        """The images of a row group."""
        images = self._groups.pop((number, group), None)
        if images is None:
            opened = self._file(number)[0]
            column = _image_column(opened.schema_arrow, self._paths[number])
            images = read_groups(opened, [group], [column]).column(0)
            if pa.types.is_struct(images.type):
                images = pc.struct_field(images, "bytes")
        self._groups[number, group] = images
        while len(self._groups) > 1 and sum(kept.nbytes for kept in self._groups.values()) > CACHED_BYTES:
            del self._groups[next(iter(self._groups))]
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
        elif _is_binary(field.type) or (field.name == "image" and pa.types.is_fixed_size_binary(field.type)):
            found[field.name] = field.name
    if "image" in found:
        return found["image"]
    if len(found) != 1:
        raise UserError(f"{path}: no column 'image' with encoded images among {', '.join(schema.names)}.")
    return next(iter(found.values()))


def _is_binary(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _open(path: Path) -> pq.ParquetFile:
    with _named(path):
        opened = pq.ParquetFile(path)
        if opened.metadata.num_rows > path.stat().st_size / MIN_ROW_BYTES:
            raise ValueError(f"it claims {opened.metadata.num_rows} rows")
        return opened


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Raise a UserError that names the file if it cannot be read."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Arrow raises errors of many kinds for damaged files, some of them of Python
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: is not a Parquet file, or is damaged ({reason}); download it again.") from None

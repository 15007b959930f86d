"""What stage `download` writes: listings of images that stay where they are, or the images themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice, repeat
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from threedgp.data.archives.boxes import cut_out
from threedgp.data.archives.files import FileEntry, Tree, open_tree
from threedgp.data.archives.pictures import SUFFIXES, BadPicture, decode_depth
from threedgp.data.archives.references import start_over_if_changed
from threedgp.data.images import resize_map, same_aspect
from threedgp.data.shards import MANIFEST, ShardFolder, ShardWriter
from threedgp.data.source import Contents, RawPicture
from threedgp.runtime.errors import UserError
from threedgp.runtime.parallel import ordered_map
from threedgp.runtime.progress import progress, say

LISTING = pa.schema(
    [
        ("id", pa.string()),
        ("label", pa.int32()),
        ("path", pa.string()),  # relative to dataset.path
        ("size", pa.int64()),  # bytes
        ("stamp", pa.int64()),  # changes when the content does
        ("problem", pa.string()),  # why the image must be left out, or null
    ]
)
GROUP_ROWS = 4096
PARTS_PER_SHARD = 20
"""Classes or files that are listed together; a stopped run lists unfinished shards again."""
SINGLE_CLASS = "all"
MAX_KINDS = 8
"""Suffixes of other files that are named."""
OUTSIDE = "lies outside of the class folders"


class Store(Protocol):
    """The encoded images of a listing. Threads may share one."""

    def load(self, entries: pa.Table) -> Iterator[bytes | BadPicture]:
        """The files of some rows of the listing, in their order, or why one cannot be read."""
        ...


class ListedSource:
    """Reads the images of a listing from a store, and their depth maps where there is a store of these.

    The listing has the columns `id`, `label`, `problem` (why a row must be left out, or null), what the stores need to
    find a file, and `box` (what to cut out of the image) where there are boxes.
    """

    def __init__(self, name: str, shards: ShardFolder, store: Store, depth_store: Store | None = None) -> None:
        self.name, self._shards, self._store, self._depth_store = name, shards, store, depth_store
        self.class_names: list[str] = shards.meta["class_names"]

    def entries(self) -> pa.Table:
        return read_listing(self._shards)

    def read(self, entries: pa.Table) -> Iterator[RawPicture]:
        known = [name for name in ("id", "label", "problem", "box") if name in entries.column_names]
        usable = entries.filter(entries["problem"].is_null())
        depths = self._depth_store.load(usable) if self._depth_store else repeat(None)
        files = zip(self._store.load(usable), depths, strict=False)
        for row in entries.select(known).to_pylist():
            try:
                if row["problem"] is not None:
                    raise BadPicture(row["problem"])
                image, depth = next(files)
                rgb = cut_out(_loaded(image), row.get("box"))
                yield RawPicture(row["id"], row["label"], rgb, None if depth is None else _depth_of(rgb, depth))
            except BadPicture as reason:
                yield RawPicture(row["id"], row["label"], error=str(reason))


class StoredSource:
    """Reads images that raw shards hold themselves; `make` makes an image of its row."""

    def __init__(self, name: str, shards: ShardFolder, make: Callable[[dict[str, Any]], RawPicture]) -> None:
        self.name, self._shards, self._make = name, shards, make
        self.class_names: list[str] = shards.meta["class_names"]

    def entries(self) -> pa.Table:
        tables = []
        for shard, table in enumerate(self._shards.iterate(["id", "label"])):
            table = table.append_column("shard", pa.repeat(shard, len(table)))
            tables.append(table.append_column("row", pa.array(np.arange(len(table)))))
        return pa.concat_tables(tables)

    def read(self, entries: pa.Table) -> Iterator[RawPicture]:
        group_rows, place, group = self._shards.manifest.row_group_rows, None, None
        for shard, row in zip(entries["shard"].to_pylist(), entries["row"].to_pylist(), strict=True):
            if place != (shard, row // group_rows):
                place = shard, row // group_rows
                group = self._shards.read_group(*place)
            yield self._make(group.slice(row % group_rows, 1).to_pylist()[0])


def _loaded(data: bytes | BadPicture) -> bytes:
    if isinstance(data, BadPicture):
        raise data
    return data


def _depth_of(rgb: NDArray[np.uint8], data: bytes | BadPicture) -> NDArray[np.float32]:
    """An encoded depth map at the size of its image: estimators work at their own resolutions."""
    depth, size = decode_depth(_loaded(data)), rgb.shape[:2]
    if not same_aspect(depth.shape, size):
        rows, columns = depth.shape
        raise BadPicture(f"the depth map has {columns}x{rows} pixels, the image {size[1]}x{size[0]}")
    return depth if depth.shape == size else resize_map(depth, *size)


def list_pictures(tree: Tree, where: Path, label: str = "download") -> list[FileEntry]:
    """All files of `tree` whose name is that of an image, sorted by path; prints after `label` what is left out.

    Raises:
        UserError: there is none; `where` names the place.
    """
    files = [_with_text_path(file) for file in tree.files()]
    found = [file for file in files if file.problem or _suffix(file) in SUFFIXES]
    others = Counter(_suffix(file) or "no suffix" for file in files if not file.problem)
    kinds = [f"{count} {kind}" for kind, count in sorted(others.items()) if kind not in SUFFIXES]
    if kinds:
        convert = "; convert HEIC, for example with heif-convert" if {".heic", ".heif"} & set(others) else ""
        say(f"{label}: files of other kinds in {where} are left out: {', '.join(kinds[:MAX_KINDS])}{convert}")
    if all(file.problem for file in found):
        reason = f"; {found[0].path}: {found[0].problem}" if found else ""
        raise UserError(f"dataset.path: {where} holds no images (.jpg, .png, .webp, ...){reason}.")
    return sorted(found, key=lambda file: file.path)


def count_pictures(path: Path, limit: int = 100_000) -> Contents | None:
    """Size and number of the files in the tree at `path` whose name is that of an image; None if there are more than
    `limit`, as counting them takes seconds."""
    files = list(islice(open_tree(path).files(), limit + 1))
    if len(files) > limit:
        return None
    found = [file for file in files if not file.problem and _suffix(file) in SUFFIXES]
    return Contents(sum(file.size for file in found), len(found))


def _suffix(file: FileEntry) -> str:
    return PurePosixPath(file.path).suffix.lower()


def first_folders(files: Sequence[FileEntry], paths: Sequence[str]) -> tuple[list[str], list[int | None]]:
    """Class names and labels from the first folder of the path of each file.

    Without folders all images are of one class; otherwise an image outside of the folders has no label. A folder of
    nothing but broken links, for example, is no class.
    """
    folders = [path.split("/")[0] if "/" in path else None for path in paths]
    names = sorted({folder for folder, file in zip(folders, files, strict=True) if folder and not file.problem})
    if not names:
        return [SINGLE_CLASS], [0] * len(files)
    number = {name: label for label, name in enumerate(names)}
    return names, [number.get(folder) for folder in folders]


def unique_labels(pairs: Iterable[tuple[str, Any]], where: str) -> dict[str, Any]:
    """Labels by name, from the pairs of a `dataset.json`. Backslashes, of files made on Windows, count as slashes.

    Raises:
        UserError: a name has two labels; `where` names the file.
        ValueError, TypeError, AttributeError: these are no pairs of a name and a label.
    """
    labels: dict[str, Any] = {}
    for name, label in pairs:
        name = name.replace("\\", "/")
        if labels.setdefault(name, label) != label:
            raise UserError(f"{where} gives {name} two labels, {labels[name]} and {label}; remove one of them.")
    return labels


def tabulate(
    files: Sequence[FileEntry], ids: Sequence[str], labels: Sequence[int | None], no_label: str = OUTSIDE
) -> pa.Table:
    """Rows of the schema LISTING; a file whose label is None is left out, for the reason `no_label`."""
    rows = [
        {
            **asdict(file),
            "id": name,
            "label": label or 0,
            "problem": file.problem or (None if label is not None else no_label),
        }
        for file, name, label in zip(files, ids, labels, strict=True)
    ]
    return pa.Table.from_pylist(rows, LISTING)


def write_listing(folder: Path, rows: pa.Table, meta: dict[str, Any]) -> None:
    """Write `rows` to `folder`, sorted by id, as one shard with a manifest."""
    (folder / MANIFEST).unlink(missing_ok=True)  # of a run that was killed before its folder was published
    writer = ShardWriter(folder, rows.schema, "raw", meta, row_group_rows=GROUP_ROWS)
    with progress("download", rows.num_rows) as bar:
        writer.write(0, rows.sort_by("id"))
        writer.finish()
        bar.advance(rows.num_rows)


def read_listing(shards: ShardFolder) -> pa.Table:
    """The whole listing."""
    return pa.concat_tables(shards.iterate())


def list_parts(
    folder: Path,
    count: int,
    list_part: Callable[[int], pa.Table],
    schema: pa.Schema,
    meta: dict[str, Any],
    *,
    unit: str,
    workers: int,
    processes: bool = False,
    shard_parts: int = PARTS_PER_SHARD,
    group_rows: int = GROUP_ROWS,
) -> ShardWriter:
    """Write the raw shards of a data set that consists of `count` parts.

    Finished shards of an earlier run are kept, unless that was made with another `meta`.

    Args:
        list_part: returns the rows of a part, sorted by id; its ids come after those of the parts before. Called in
            `workers` threads, or new processes.
        meta: for the manifest; differs if the files of the data set have changed since an earlier run.
        unit: what the progress bar calls a part.
        shard_parts: parts that are written together.

    Returns:
        the writer, whose manifest is still to be written.
    """
    listed = (*folder.glob("part-*.parquet"), *folder.glob(".*.done.json"), folder / MANIFEST)
    start_over_if_changed(folder.with_name("listed.json"), meta, *listed)
    writer = ShardWriter(folder, schema, "raw", meta, row_group_rows=group_rows)
    shards = [range(start, min(start + shard_parts, count)) for start in range(0, count, shard_parts)]
    missing = [(number, shard) for number, shard in enumerate(shards) if not writer.done(number)]
    left = sum(len(shard) for _, shard in missing)
    tables = ordered_map(list_part, (part for _, shard in missing for part in shard), workers, processes=processes)
    with progress("download", count, unit, done=count - left) as bar:
        for number, shard in missing:
            found = []
            for table in islice(tables, len(shard)):
                found.append(table)
                bar.advance()
            writer.write(number, pa.concat_tables(found).combine_chunks())
    return writer


def _with_text_path(file: FileEntry) -> FileEntry:
    """Linux allows file names that are not UTF-8; such a file gets an escaped name, and is left out."""
    text = file.path.encode("utf-8", "backslashreplace").decode()
    return file if text == file.path else replace(file, path=text, problem="the file name is not UTF-8")

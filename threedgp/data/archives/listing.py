"""What stage `download` keeps of pictures that stay where they are: a listing by reference, no pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from threedgp.data.archives.files import Listed, Tree
from threedgp.data.archives.pictures import SUFFIXES
from threedgp.data.archives.references import start_over_if_changed
from threedgp.data.parallel import ordered_map
from threedgp.data.shards import MANIFEST, ShardFolder, ShardWriter
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import progress

LISTING = pa.schema(
    [
        ("id", pa.string()),
        ("label", pa.int32()),
        ("path", pa.string()),  # relative to dataset.path
        ("size", pa.int64()),  # bytes
        ("stamp", pa.int64()),  # changes when the content does
        ("problem", pa.string()),  # why the picture must be left out, or null
    ]
)

GROUP_ROWS = 4096
PARTS_A_SHARD = 20
"""Classes, or files of others, that are listed before a stopped run no longer lists them again."""

MOST_CLASSES = 100_000
"""A larger label is no class number."""
ONE_CLASS = "all"
OUTSIDE = "lies outside of the class folders"


def list_pictures(tree: Tree, where: Path) -> list[Listed]:
    """All files of `tree` with the name of a picture, sorted by path.

    Raises:
        UserError: there is none; `where` names the place.
    """
    found = [_storable(file) for file in tree.files()]
    found = [file for file in found if file.problem or PurePosixPath(file.path).suffix.lower() in SUFFIXES]
    if all(file.problem for file in found):
        but = f"; {found[0].path}: {found[0].problem}" if found else ""
        raise UserError(f"dataset.path: {where} holds no pictures (.jpg, .png, .webp, ...){but}.")
    return sorted(found, key=lambda file: file.path)


def first_folders(paths: list[str]) -> tuple[list[str], list[int | None]]:
    """Class names and labels from the first folder of each path.

    Without folders all pictures are of one class; beside folders, a picture in none of them has no label.
    """
    folders = [path.split("/")[0] if "/" in path else None for path in paths]
    names = sorted({folder for folder in folders if folder is not None})
    if not names:
        return [ONE_CLASS], [0] * len(paths)
    number = {name: label for label, name in enumerate(names)}
    return names, [None if folder is None else number[folder] for folder in folders]


def tabulate(files: Sequence[Listed], ids: Sequence[str], labels: Sequence[int | None]) -> pa.Table:
    """Rows of the schema LISTING; a file without a label lies where no class is."""
    columns = {
        "id": ids,
        "label": [label or 0 for label in labels],
        "path": [file.path for file in files],
        "size": [file.size for file in files],
        "stamp": [file.stamp for file in files],
        "problem": [
            file.problem or (OUTSIDE if label is None else None) for file, label in zip(files, labels, strict=True)
        ],
    }
    return pa.table({name: pa.array(values, LISTING.field(name).type) for name, values in columns.items()}, LISTING)


def write_listing(folder: Path, rows: pa.Table, meta: dict[str, Any]) -> None:
    """Write `rows` to `folder`, sorted by id, as one shard with a manifest."""
    writer = ShardWriter(folder, rows.schema, "raw", meta, row_group_rows=GROUP_ROWS)
    with progress("download", rows.num_rows) as bar:
        writer.write(0, rows.sort_by("id"))
        writer.finish()
        bar.advance(rows.num_rows)


def listing_writer(folder: Path, schema: pa.Schema, meta: dict[str, Any]) -> ShardWriter:
    """A writer that goes on with the listing of an earlier run, unless that was made under another `meta`."""
    listed = (*folder.glob("part-*.parquet"), *folder.glob(".*.done.json"), folder / MANIFEST)
    start_over_if_changed(folder.with_name("listed.json"), meta, *listed)
    return ShardWriter(folder, schema, "raw", meta, row_group_rows=GROUP_ROWS)


def list_parts(
    folder: Path,
    count: int,
    list_part: Callable[[int], pa.Table],
    schema: pa.Schema,
    meta: dict[str, Any],
    *,
    unit: str,
    workers: int,
) -> ShardWriter:
    """Write the listing of a set that comes in `count` parts, some parts a shard; finished shards are kept.

    Args:
        list_part: rows of a part, sorted by id; its ids come after those of the parts before. Called in threads.
        meta: for the manifest; tells when the files of the set are others than in an earlier run.
        unit: what the progress calls a part.

    Returns:
        the writer, whose manifest is still to be written.
    """
    writer = listing_writer(folder, schema, meta)
    shards = [range(start, min(start + PARTS_A_SHARD, count)) for start in range(0, count, PARTS_A_SHARD)]
    missing = [(number, shard) for number, shard in enumerate(shards) if not writer.done(number)]
    left = sum(len(shard) for _, shard in missing)
    tables = ordered_map(lambda part: list_part(part), (part for _, shard in missing for part in shard), workers)
    with progress("download", count, unit, done=count - left) as bar:
        for number, shard in missing:
            found = []
            for _ in shard:
                found.append(next(tables))
                bar.advance()
            writer.write(number, pa.concat_tables(found))
    return writer


def read_listing(shards: ShardFolder) -> pa.Table:
    """The whole listing."""
    return pa.concat_tables(shards.iterate())


def _storable(file: Listed) -> Listed:
    """Linux allows file names that are no text; such a file is named by an escaped text, and left out."""
    text = file.path.encode("utf-8", "backslashreplace").decode()
    return file if text == file.path else replace(file, path=text, problem="the file name is not UTF-8")

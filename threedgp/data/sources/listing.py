"""What stage `download` keeps of pictures that stay where they are: a listing by reference, no pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

import pyarrow as pa

from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.data.sources.files import Listed, Tree
from threedgp.data.sources.pictures import SUFFIXES
from threedgp.errors import UserError

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


def write_listing(folder: Path, rows: list[dict[str, object]], schema: pa.Schema, meta: dict[str, object]) -> None:
    """Write `rows` to `folder`, sorted by id, as one shard with a manifest."""
    writer = ShardWriter(folder, schema, "raw", meta, row_group_rows=4096)
    writer.write(0, pa.Table.from_pylist(sorted(rows, key=lambda row: str(row["id"])), schema))
    writer.finish()


def read_listing(shards: ShardFolder) -> pa.Table:
    """The whole listing."""
    return pa.concat_tables(shards.iterate())


def _storable(file: Listed) -> Listed:
    """Linux allows file names that are no text; such a file is named by an escaped text, and left out."""
    text = file.path.encode("utf-8", "backslashreplace").decode()
    return file if text == file.path else replace(file, path=text, problem="the file name is not UTF-8")

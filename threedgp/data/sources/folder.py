"""Source `folder`: any tree of pictures, class = first folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from threedgp.data.shards import ShardFolder
from threedgp.data.sources.base import RawPicture
from threedgp.data.sources.files import open_tree, read_listed
from threedgp.data.sources.listing import (
    LISTING,
    OUTSIDE,
    first_folders,
    list_pictures,
    read_listing,
    write_listing,
)
from threedgp.data.sources.pictures import BadPicture, decode_picture
from threedgp.progress import progress


def download(path: Path, folder: Path) -> None:
    """List the pictures below `path` in `folder`; their ids are their relative paths.

    Raises:
        UserError: `path` is missing or holds no pictures.
    """
    files = list_pictures(open_tree(path), path)
    class_names, labels = first_folders([file.path for file in files])
    rows: list[dict[str, object]] = []
    with progress("download", len(files)) as bar:
        for file, label in zip(files, labels, strict=True):
            problem = file.problem or (OUTSIDE if label is None else None)
            place = {"path": file.path, "size": file.size, "stamp": file.stamp}
            rows.append({"id": file.path, "label": label or 0, **place, "problem": problem})
            bar.advance()
    write_listing(folder, rows, LISTING, {"source": "folder", "class_names": class_names})


class FolderSource:
    """Reads listed pictures."""

    name = "folder"

    def __init__(self, shards: ShardFolder, path: Path) -> None:
        self._shards, self._tree = shards, open_tree(path)
        self.class_names: list[str] = shards.meta["class_names"]

    def entries(self) -> pa.Table:
        return read_listing(self._shards)

    def read(self, entries: pa.Table) -> Iterator[RawPicture]:
        for row in entries.to_pylist():
            picture = RawPicture(row["id"], row["label"], error=row["problem"])
            if picture.error is None:
                picture = self._load(picture, row)
            yield picture

    def _load(self, picture: RawPicture, row: dict[str, object]) -> RawPicture:
        try:
            data = read_listed(self._tree, row["path"], row["size"], row["stamp"])
            return RawPicture(picture.id, picture.label, decode_picture(data))
        except BadPicture as reason:
            return RawPicture(picture.id, picture.label, error=str(reason))

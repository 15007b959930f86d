"""Source `folder`: any tree of pictures, class = first folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from threedgp.data.archives.files import open_tree, read_listed
from threedgp.data.archives.listed import ListedSource
from threedgp.data.archives.listing import first_folders, list_pictures, tabulate, write_listing
from threedgp.data.archives.pictures import BadPicture
from threedgp.data.shards import ShardFolder


def download(path: Path, folder: Path) -> None:
    """List the pictures below `path` in `folder`; their ids are their relative paths.

    Raises:
        UserError: `path` is missing or holds no pictures.
    """
    files = list_pictures(open_tree(path), path)
    ids = [file.path for file in files]
    class_names, labels = first_folders(ids)
    write_listing(folder, tabulate(files, ids, labels), {"source": "folder", "class_names": class_names})


class TreeStore:
    """Files below a folder or inside a zip, listed with the schema LISTING."""

    def __init__(self, path: Path) -> None:
        self._tree = open_tree(path)

    def load(self, entries: pa.Table) -> Iterator[bytes | BadPicture]:
        for row in entries.select(["path", "size", "stamp"]).to_pylist():
            try:
                yield read_listed(self._tree, **row)
            except BadPicture as reason:
                yield reason


def open_folder(shards: ShardFolder, path: Path) -> ListedSource:
    """Open what `download` listed."""
    return ListedSource("folder", shards, TreeStore(path))

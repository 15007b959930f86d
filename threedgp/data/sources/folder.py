"""Source `folder`: any tree of images in a folder, zip or tar; the first folder of a path is the class."""

from __future__ import annotations

from pathlib import Path

from threedgp.data.archives.files import TreeStore, open_tree
from threedgp.data.archives.listing import (
    ListedSource,
    count_pictures,
    first_folders,
    list_pictures,
    tabulate,
    write_listing,
)
from threedgp.data.source import SourceKind


def download(path: Path, folder: Path) -> None:
    """List the images below `path` in `folder`; their ids are their relative paths."""
    files = list_pictures(open_tree(path), path)
    ids = [file.path for file in files]
    class_names, labels = first_folders(files, ids)
    write_listing(folder, tabulate(files, ids, labels), {"source": "folder", "class_names": class_names})


SOURCE = SourceKind(
    download=lambda config, path, folder: download(path, folder),
    open=lambda shards, path, raw: ListedSource("folder", shards, TreeStore(path)),
    needs_path=True,
    contents=lambda path, subset: count_pictures(path),
)

"""Source `hub`: a data set of images on the Hugging Face hub, or a folder with its Parquet files.

`dataset.path` is its name, `owner/name`, or the folder. The training split is used where there are several; a column
`label` of integers is the class.
"""

from __future__ import annotations

import re
from pathlib import Path

from threedgp.config import Config
from threedgp.data.archives import parquet_files
from threedgp.data.archives.listing import ListedSource
from threedgp.data.archives.references import refer
from threedgp.data.shards import ShardFolder
from threedgp.data.source import SourceKind
from threedgp.runtime.addresses import expanded
from threedgp.runtime.errors import UserError

ABOUT = {"source": "hub"}
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def is_repository(path: str) -> bool:
    """Whether `path` is the name of a repository, and not a folder."""
    return REPOSITORY.fullmatch(path) is not None and not expanded(path).exists()


def download(config: Config, path: Path, folder: Path) -> None:
    """List the images in `folder`; files that have to be downloaded lie beside the listing."""
    name, machine = config.dataset.path, config.machine
    if is_repository(name):
        root, files = parquet_files.download_parquet(name, folder, machine.mirror)
    else:
        names = parquet_files.find_parquet(path) if path.is_dir() else []
        if not names:
            raise UserError(
                f"dataset.path: {path} is not a folder with Parquet files; name one, or a data set of the hub, as "
                "owner/name."
            )
        root, files = path, refer(path, names)
    parquet_files.list_labelled(root, files, folder, ABOUT, machine.workers)


def _open(shards: ShardFolder, path: Path, raw: Path) -> ListedSource:
    return ListedSource("hub", shards, parquet_files.open_listed(shards, path, raw))


SOURCE = SourceKind(
    download=download,
    open=_open,
    needs_path=True,
    is_address=is_repository,
    contents=lambda path, subset: parquet_files.contents(path),
    download_bytes=lambda config: None if is_repository(config.dataset.path) else (0, 0),
)

"""Source `sdip`: Self-Distilled Internet Photos, the dogs and the elephants.

`dataset.path` is null (the Parquet files of the Hugging Face hub are fetched), a folder with those files (they are
read where they lie), or the authors' list of addresses and bounding boxes, a `.json` (`sdip_links`).
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from threedgp.config import MachineConfig
from threedgp.data.archives import parquet_files, sdip_links
from threedgp.data.archives.hub_files import fetch_parquet
from threedgp.data.archives.listed import ListedSource
from threedgp.data.archives.listing import list_parts
from threedgp.data.archives.parquet_files import ParquetStore
from threedgp.data.archives.references import Reference, check_unchanged, refer
from threedgp.data.shards import ShardFolder
from threedgp.fetch.table import SDIP
from threedgp.runtime.errors import UserError

LINKS_SUFFIX = ".json"


def download(subset: str, path: Path | None, folder: Path, machine: MachineConfig) -> None:
    """List the pictures of `subset` in `folder`, with the files that have to be fetched beside the listing.

    Raises:
        UserError: they cannot be had, or there are none at `path`.
    """
    if path is None:
        root, files = fetch_parquet(SDIP[subset].repo, folder, machine)
    elif path.suffix == LINKS_SUFFIX:
        root, files = sdip_links.download(path, folder, machine)
    else:
        root, files = path, _local(subset, path)
    names = [str(file["name"]) for file in files]
    inside = root.relative_to(folder).as_posix() if root.is_relative_to(folder) else None
    meta = {"source": "sdip", "class_names": [subset], "inside": inside, "files": files}

    def list_file(number: int) -> pa.Table:
        return parquet_files.list_rows(root, names, number, labelled=False)

    workers = machine.workers
    list_parts(folder, len(names), list_file, parquet_files.ROWS, meta, unit="files", workers=workers).finish()


def open_sdip(shards: ShardFolder, path: Path | None, raw: Path) -> ListedSource:
    """Open what `download` listed in `raw`.

    Raises:
        UserError: a file has changed since then.
    """
    inside, files = shards.meta["inside"], shards.meta["files"]
    root = path if inside is None else raw / inside
    check_unchanged(root, files)
    return ListedSource("sdip", shards, ParquetStore(root, [file["name"] for file in files]))


def what_to_fetch(subset: str) -> str:
    """What a person should do who has none of it."""
    return (
        f"set dataset.path to null to have {SDIP[subset].repo} fetched from the Hugging Face hub, or to a folder with "
        "its Parquet files, or to the .json of the authors "
        "(github.com/self-distilled-stylegan/self-distilled-internet-photos)"
    )


def _local(subset: str, path: Path) -> list[Reference]:
    names = parquet_files.find_parquet(path) if path.is_dir() else []
    if not names:
        what = "holds no Parquet files" if path.is_dir() else "is neither a folder nor a .json"
        what = what if path.exists() else "does not exist"
        raise UserError(f"dataset.path: {path} {what}; {what_to_fetch(subset)}.")
    return refer(path, names)

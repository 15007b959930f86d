"""Source `sdip`: Self-Distilled Internet Photos, the dogs and the elephants.

`dataset.path` is null (the Parquet files of the Hugging Face hub are fetched), a folder with those files (they are
read where they lie), or the authors' list of addresses and bounding boxes, a `.json` (`sdip_links`).
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from threedgp.config import Config
from threedgp.data.archives import parquet_files, sdip_links
from threedgp.data.archives.listed import ListedSource
from threedgp.data.archives.listing import list_parts
from threedgp.data.archives.parquet_files import ParquetStore, download_parquet
from threedgp.data.archives.references import Reference, check_unchanged, refer
from threedgp.data.shards import ShardFolder
from threedgp.data.source import Contents, Published, SourceKind
from threedgp.fetch.hub import HUB
from threedgp.runtime.errors import UserError

REPOS = {"dogs": "rmokady/SDIP_dog", "elephants": "rmokady/SDIP_elephant"}
NUM_IMAGES = {"dogs": 126_841, "elephants": 39_400}
LINKS_SUFFIX = ".json"


def download(config: Config, path: Path | None, folder: Path) -> None:
    """List the images of the subset in `folder`; files that have to be downloaded lie beside the listing.

    Raises:
        UserError: they cannot be downloaded, or there are none at `path`.
    """
    subset, machine = config.dataset.subset, config.machine
    if path is None:
        root, files = download_parquet(REPOS[subset], folder, machine.mirror)
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


def instructions(subset: str) -> str:
    """How to get the images."""
    return (
        f"set dataset.path to null to download {REPOS[subset]} from the Hugging Face hub, or to a folder with "
        "its Parquet files, or to the .json of the authors "
        "(github.com/self-distilled-stylegan/self-distilled-internet-photos)"
    )


def _local(subset: str, path: Path) -> list[Reference]:
    names = parquet_files.find_parquet(path) if path.is_dir() else []
    if not names:
        what = "holds no Parquet files" if path.is_dir() else "is neither a folder nor a .json"
        what = what if path.exists() else "does not exist"
        raise UserError(f"dataset.path: {path} {what}; {instructions(subset)}.")
    return refer(path, names)


def contents(path: Path, subset: str) -> Contents | None:
    """Size and number of images of the Parquet files at `path`, or the length of the authors' list.

    Raises:
        UserError: they are damaged.
    """
    if path.suffix == LINKS_SUFFIX:
        return Contents(path.stat().st_size, len(sdip_links.read_list(path)))
    return parquet_files.contents(path)


def _download_bytes(config: Config) -> tuple[int, int] | None:
    path = config.dataset.path
    return None if path is None or path.endswith(LINKS_SUFFIX) else (0, 0)


SOURCE = SourceKind(
    download=download,
    open=open_sdip,
    published={name: Published(f"{HUB}/datasets/{repo}", NUM_IMAGES[name]) for name, repo in REPOS.items()},
    instructions=instructions,
    contents=contents,
    download_bytes=_download_bytes,
)

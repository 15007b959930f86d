"""Source `sdip`: Self-Distilled Internet Photos (Mokady et al. 2022), the dogs and the elephants.

`dataset.path` is null (the Parquet files of the Hugging Face hub are downloaded), a folder with those files (they are
read in place), or the authors' list, a `.json` of URLs on Flickr and of the boxes to cut out. By the list, photographs
are kept as they came, in Parquet shards below `pictures`, with the URL that their license asks to name; the box is
applied when they are read. Photographs that are gone are listed in `left_out.parquet`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from threedgp.config import Config, MachineConfig
from threedgp.data.archives import parquet_files
from threedgp.data.archives.boxes import Box, parse_box, upright_box
from threedgp.data.archives.listing import ListedSource
from threedgp.data.archives.pictures import BadPicture
from threedgp.data.archives.references import Reference, refer, start_over_if_changed
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.data.source import Contents, Published, SourceKind
from threedgp.fetch.http import PermanentError
from threedgp.fetch.hub import HUB
from threedgp.fetch.links import fetch_links
from threedgp.runtime.atomic import atomic_path, require_free
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import progress

REPOS = {"dogs": "rmokady/SDIP_dog", "elephants": "rmokady/SDIP_elephant"}
NUM_IMAGES = {"dogs": 126_841, "elephants": 39_400}
LIST_SUFFIX = ".json"

PHOTOGRAPHS = pa.schema(
    [
        ("name", pa.string()),
        ("url", pa.string()),
        ("image", pa.binary()),  # the file as it came
        ("box", pa.list_(pa.int32())),
    ]
)
LEFT_OUT = pa.schema([("name", pa.string()), ("url", pa.string()), ("reason", pa.string())])
SHARD_LINKS = 128
GROUP_ROWS = 16
SHARD_BYTES = SHARD_LINKS * 8 * 2**20
"""Upper bound for the originals of a shard."""


def download(config: Config, path: Path | None, folder: Path) -> None:
    """List the images of the subset in `folder`; files that have to be downloaded lie beside the listing."""
    subset, machine = config.dataset.subset, config.machine
    if path is None:
        root, files = parquet_files.download_parquet(REPOS[subset], folder, machine.mirror)
    elif path.suffix == LIST_SUFFIX:
        root, files = _download_list(path, folder, machine)
    else:
        root, files = path, _local_files(subset, path)
    meta = {"source": "sdip", "class_names": [subset]}
    parquet_files.list_files(root, files, folder, meta, machine.workers, labelled=False).finish()


def open_sdip(shards: ShardFolder, path: Path | None, raw: Path) -> ListedSource:
    """Open what `download` listed in `raw`."""
    return ListedSource("sdip", shards, parquet_files.open_listed(shards, path, raw))


def instructions(subset: str) -> str:
    """How to get the images by hand, and what to set `dataset.path` to."""
    return (
        f"set dataset.path to null to download {REPOS[subset]} from the Hugging Face hub, or to a folder with "
        "its Parquet files, or to the .json of the authors "
        "(github.com/self-distilled-stylegan/self-distilled-internet-photos)"
    )


def contents(path: Path, subset: str) -> Contents | None:
    """Size and number of images of the Parquet files at `path`, or the length of the authors' list."""
    if path.suffix == LIST_SUFFIX:
        return Contents(path.stat().st_size, len(read_list(path)))
    return parquet_files.contents(path)


def _local_files(subset: str, path: Path) -> list[Reference]:
    names = parquet_files.find_parquet(path) if path.is_dir() else []
    if not names:
        problem = "holds no Parquet files" if path.is_dir() else "is neither a folder nor a .json"
        problem = problem if path.exists() else "does not exist"
        raise UserError(f"dataset.path: {path} {problem}; {instructions(subset)}.")
    return refer(path, names)


# ---- The authors' list -----------------------------------------------------------------------------------------------


class Photograph(NamedTuple):
    """An entry of the list."""

    name: str
    url: str
    box: Box


def read_list(path: Path) -> list[Photograph]:
    """The entries of the authors' JSON: objects with `image_name`, a URL, and `bounding_box`.

    Raises:
        UserError: the file is missing or is not such a list.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(entries, list) or not entries:
            raise ValueError("it is empty or not a list")
        return [
            Photograph(f"{number:06d}", _url(entry["image_name"]), parse_box(entry["bounding_box"]))
            for number, entry in enumerate(entries)
        ]
    except FileNotFoundError:
        raise UserError(f"dataset.path: {path} does not exist; name the .json of the authors of SDIP.") from None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f'dataset.path: {path} is not a list of {{"image_name": URL, "bounding_box": [top, bottom, left, right]}} '
            f"({type(error).__name__}: {error})."
        ) from None


def _url(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value} is not a URL")
    value.encode()  # raises ValueError for half of a surrogate pair, which JSON can contain
    return value


def _download_list(path: Path, folder: Path, machine: MachineConfig) -> tuple[Path, list[Reference]]:
    """Download the photographs of the list at `path` into `folder`; finished shards are kept.

    Returns:
        the folder that holds them, and its files.
    """
    photographs = read_list(path)
    shards = [photographs[start : start + SHARD_LINKS] for start in range(0, len(photographs), SHARD_LINKS)]
    pictures, lists = folder / "pictures", folder.with_name("left_out")
    start_over_if_changed(folder.with_name("list.json"), refer(path.parent, [path.name]), pictures, lists)
    writer = ShardWriter(pictures, PHOTOGRAPHS, "raw", {}, row_group_rows=GROUP_ROWS)
    left_out = ShardWriter(lists, LEFT_OUT, "left out", {})
    missing = [(number, shard) for number, shard in enumerate(shards) if not writer.done(number)]
    lost = sum(left_out.rows(number) for number in range(len(shards)) if writer.done(number))
    urls = [photograph.url for _, shard in missing for photograph in shard]
    fetched = fetch_links(urls, requests_per_second=machine.requests_per_second, connections=machine.connections)
    with closing(fetched), progress("download", len(photographs), "links", len(photographs) - len(urls)) as bar:
        for number, shard in missing:
            require_free(folder, SHARD_BYTES)
            kept, dropped = _sort_out(shard, fetched)
            left_out.write(number, dropped)
            writer.write(number, kept)  # last: this marks the shard as done
            lost += dropped.num_rows
            bar.advance(len(shard))
            bar.note(f"{lost} left out")
            if lost > machine.max_dead_links * len(photographs):
                raise UserError(
                    f"{path}: {lost} of {len(photographs)} photographs are gone or were replaced, more "
                    f"than machine.max_dead_links ({machine.max_dead_links:g}) allows; the last: "
                    f"{dropped['reason'][-1]}."
                )
    with atomic_path(folder / "left_out.parquet") as temporary:
        pq.write_table(pa.concat_tables(map(pq.read_table, sorted(lists.glob("part-*.parquet")))), temporary)
    files = writer.finish().files
    return pictures, [{"name": file.name, "size": file.bytes, "checksum": f"sha256:{file.sha256}"} for file in files]


def _sort_out(shard: list[Photograph], fetched: Iterator[bytes | PermanentError]) -> tuple[pa.Table, pa.Table]:
    """The next photographs of `fetched`: those that are as expected, and the others with the reason."""
    kept, dropped = [], []
    for photograph, found in zip(shard, islice(fetched, len(shard)), strict=True):
        try:
            if isinstance(found, PermanentError):
                raise BadPicture(str(found))
            upright_box(found, photograph.box)  # a stand-in for a deleted photograph is smaller than the box
            kept.append(photograph._asdict() | {"image": found})
        except BadPicture as reason:
            dropped.append(photograph._asdict() | {"reason": str(reason)})
    return pa.Table.from_pylist(kept, PHOTOGRAPHS), pa.Table.from_pylist(dropped, LEFT_OUT)


def _download_bytes(config: Config) -> tuple[int, int] | None:
    path = config.dataset.path
    return None if path is None or path.endswith(LIST_SUFFIX) else (0, 0)


SOURCE = SourceKind(
    download=download,
    open=open_sdip,
    published={name: Published(f"{HUB}/datasets/{repo}", NUM_IMAGES[name]) for name, repo in REPOS.items()},
    instructions=instructions,
    contents=contents,
    download_bytes=_download_bytes,
)

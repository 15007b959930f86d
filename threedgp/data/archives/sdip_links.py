"""The authors' form of SDIP: a list of addresses (Flickr) and of the boxes to cut out of what is there.

The pictures are kept as they came, in Parquet shards below `pictures`, beside the address that their licence asks to be
named; the box is applied when they are read. What can no longer be had is left out and listed in `left_out.parquet`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from threedgp.config import MachineConfig
from threedgp.data.archives.boxes import Box, upright_box
from threedgp.data.archives.pictures import BadPicture
from threedgp.data.archives.references import Reference, refer, start_over_if_changed
from threedgp.data.shards import ShardWriter
from threedgp.fetch.links import Fetched, Link, fetch_links
from threedgp.runtime.atomic import atomic_path, require_free
from threedgp.runtime.errors import UserError

PICTURES = pa.schema(
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
"""More than the originals of a shard take."""


@dataclass(frozen=True)
class Photograph:
    """An entry of the authors' list."""

    name: str
    url: str
    box: Box


def read_list(path: Path) -> list[Photograph]:
    """The entries of the authors' JSON: objects with `image_name`, an address, and `bounding_box`.

    Raises:
        UserError: it is none.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(entries, list) or not entries:
            raise ValueError("nothing is listed")
        return [
            Photograph(f"{number:06d}", _address(entry["image_name"]), _box(entry["bounding_box"]))
            for number, entry in enumerate(entries)
        ]
    except FileNotFoundError:
        raise UserError(f"dataset.path: {path} does not exist; name the .json of the authors of SDIP.") from None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f'dataset.path: {path} is no list of {{"image_name": address, "bounding_box": [top, bottom, left, right]}} '
            f"({type(error).__name__}: {error})."
        ) from None


def _address(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value} is no address")
    value.encode()  # half of a surrogate pair, which JSON can name, raises a ValueError
    return value


def _box(value: object) -> Box:
    if not isinstance(value, list) or len(value) != 4 or any(abs(edge) > 2**31 - 1 for edge in value):
        raise ValueError(f"{value} is no box")
    return [round(edge) for edge in value]


def download(path: Path, folder: Path, machine: MachineConfig) -> tuple[Path, list[Reference]]:
    """Fetch the pictures of the list at `path` into `folder`; finished shards are kept.

    Returns:
        the folder that holds them, and its files.

    Raises:
        UserError: more than `machine.max_dead_links` of them cannot be had, or there is too little space.
    """
    photographs = read_list(path)
    shards = [photographs[start : start + SHARD_LINKS] for start in range(0, len(photographs), SHARD_LINKS)]
    pictures, lists, record = folder / "pictures", folder.with_name("left_out"), folder.with_name("dead_links.jsonl")
    start_over_if_changed(folder.with_name("list.json"), refer(path.parent, [path.name]), pictures, lists, record)
    writer = ShardWriter(pictures, PICTURES, "raw", {}, row_group_rows=GROUP_ROWS)
    left_out = ShardWriter(lists, LEFT_OUT, "left out", {})
    missing = [(number, shard) for number, shard in enumerate(shards) if not writer.done(number)]
    lost = sum(left_out.rows(number) for number in range(len(shards)) if writer.done(number))
    fetched = fetch_links(
        [Link(photograph.name, photograph.url) for _, shard in missing for photograph in shard],
        record,
        title="download",
        max_dead=machine.max_dead_links,
        requests_per_second=machine.requests_per_second,
        connections=machine.connections,
        total=len(photographs),
    )
    with closing(fetched):
        for number, shard in missing:
            require_free(folder, SHARD_BYTES)
            kept, dropped = _sort_out(shard, fetched)
            left_out.write(number, dropped)
            writer.write(number, kept)  # last: it is what makes the shard done
            lost += dropped.num_rows
            if lost > machine.max_dead_links * len(photographs):
                raise UserError(
                    f"{path}: {lost} of {len(photographs)} pictures cannot be had or are others than they were, more "
                    f"than machine.max_dead_links ({machine.max_dead_links:g}) allows; the last: "
                    f"{dropped['reason'][-1]}."
                )
        next(fetched, None)  # lets it finish
    with atomic_path(folder / "left_out.parquet") as temporary:
        pq.write_table(pa.concat_tables(map(pq.read_table, sorted(lists.glob("part-*.parquet")))), temporary)
    files = writer.finish().files
    return pictures, [{"name": file.name, "size": file.bytes, "checksum": f"sha256:{file.sha256}"} for file in files]


def _sort_out(shard: list[Photograph], fetched: Iterator[Fetched]) -> tuple[pa.Table, pa.Table]:
    """The next photographs of `fetched`: those that are as expected, and those that are not, with the reason."""
    kept, dropped = [], []
    for photograph, found in zip(shard, islice(fetched, len(shard)), strict=True):
        row = {"name": photograph.name, "url": photograph.url}
        try:
            if found.data is None:
                raise BadPicture(found.reason)
            upright_box(found.data, photograph.box)  # a stand-in for a deleted picture is smaller than the box
            kept.append({**row, "image": found.data, "box": photograph.box})
        except BadPicture as reason:
            dropped.append({**row, "reason": str(reason)})
    return pa.Table.from_pylist(kept, PICTURES), pa.Table.from_pylist(dropped, LEFT_OUT)

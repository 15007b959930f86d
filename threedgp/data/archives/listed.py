"""Pictures that stay where they are, in an archive or in files of others: a listing says where."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa

from threedgp.data.archives.boxes import cut_out
from threedgp.data.archives.listing import read_listing
from threedgp.data.archives.pictures import BadPicture
from threedgp.data.shards import ShardFolder
from threedgp.data.source import RawPicture


class Store(Protocol):
    """Where the encoded pictures of a listing are. Threads may share one."""

    def load(self, entries: pa.Table) -> Iterator[bytes | BadPicture]:
        """The files of some rows of the listing, in their order, or why one cannot be had."""
        ...


class ListedSource:
    """Reads the pictures of a listing from their store.

    The listing has the columns `id`, `label`, `problem` (why a row must be left out, or null), what the store needs to
    find the others, and `box` (what is to be cut out of the picture) where there are boxes.
    """

    def __init__(self, name: str, shards: ShardFolder, store: Store) -> None:
        self.name, self._shards, self._store = name, shards, store
        self.class_names: list[str] = shards.meta["class_names"]

    def entries(self) -> pa.Table:
        return read_listing(self._shards)

    def read(self, entries: pa.Table) -> Iterator[RawPicture]:
        known = [name for name in ("id", "label", "problem", "box") if name in entries.column_names]
        files = self._store.load(entries.filter(entries["problem"].is_null()))
        for row in entries.select(known).to_pylist():
            try:
                if row["problem"] is not None:
                    raise BadPicture(row["problem"])
                data = next(files)
                if isinstance(data, BadPicture):
                    raise data
                yield RawPicture(row["id"], row["label"], cut_out(data, row.get("box")))
            except BadPicture as reason:
                yield RawPicture(row["id"], row["label"], error=str(reason))

"""Sets of arrays that do not fit into memory, or are cheaper to read again than to keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from threedgp.data.images import decode_images
from threedgp.data.shards import ShardFolder

Part = Callable[[], np.ndarray]
"""Makes a batch, the same one at every call."""


class Stream:
    """`size` items in batches, which are made again at every iteration."""

    def __init__(self, size: int, parts: Sequence[Part]) -> None:
        self._size, self.parts = size, list(parts)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[np.ndarray]:
        return (part() for part in self.parts)

    def map(self, function: Callable[[np.ndarray], np.ndarray]) -> Stream:
        """The batches after `function`, which must keep the number of items."""
        return Stream(self._size, [lambda part=part: function(part()) for part in self.parts])

    def whole(self) -> np.ndarray:
        """All items in one array."""
        return np.concatenate(list(self))

    def head(self, count: int) -> np.ndarray:
        """The first `count` items, or all if there are fewer, in one array."""
        return np.concatenate(list(self.first(count)))

    def spread(self, count: int) -> np.ndarray:
        """At most `count` different items at about equal intervals, in one array, of at most `count` batches. There are
        fewer where a batch is smaller than its share."""
        count = min(count, self._size)
        chosen = np.linspace(0, len(self.parts) - 1, min(count, len(self.parts))).round().astype(int)
        shares = np.diff(np.linspace(0, count, len(chosen) + 1).round().astype(int))
        batches = [self.parts[part]() for part in chosen]
        pairs = zip(batches, shares, strict=True)
        return np.concatenate(
            [batch[np.linspace(0, len(batch) - 1, min(share, len(batch))).astype(int)] for batch, share in pairs]
        )

    def first(self, count: int) -> Iterator[np.ndarray]:
        """Batches of the first `count` items."""
        for part in self.parts:
            if count <= 0:
                break
            batch = part()[:count]
            yield batch
            count -= len(batch)


def chunks(count: int, size: int) -> list[tuple[int, int]]:
    """Starts and ends of pieces of at most `size` items that cover `count` items."""
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def read_column(file: Path, name: str) -> np.ndarray:
    """An array of a .npz file."""
    with np.load(file) as columns:
        return columns[name]


def stored(
    shards: ShardFolder, rows: np.ndarray, column: str, decode: Callable[[pa.ChunkedArray], np.ndarray]
) -> Stream:
    """A column of the given rows of a whole set, ascending: a batch for each shard that holds some of them."""
    starts = np.cumsum([0, *(file.rows for file in shards.manifest.files)])

    def part(shard: int, inside: np.ndarray) -> np.ndarray:
        values = shards.read(shard, [column])[column]
        mask = np.zeros(len(values), bool)
        mask[inside] = True
        return decode(values.filter(pa.array(mask)))  # `take` fails where a shard has more than 2 GiB

    pieces = enumerate(np.split(rows, np.searchsorted(rows, starts[1:-1])))
    return Stream(len(rows), [partial(part, shard, piece - starts[shard]) for shard, piece in pieces if len(piece)])


def stored_images(shards: ShardFolder, rows: np.ndarray) -> Stream:
    """Images of the given rows, ascending: uint8 batches `[n, 3, R, R]`."""
    return stored(shards, rows, "image", lambda images: decode_images(images).transpose(0, 3, 1, 2))

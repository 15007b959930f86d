"""The order of the training samples, a function of the seed and the position only.

Each epoch permutes the shards, the row groups within a shard, and the rows within a window of row groups. Shards are
read one after the other, a few row groups at a time, and no table but the list of shards grows with the data set. The
whole data set was shuffled once, when the shards were written.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WINDOW_GROUPS = 8
"""Row groups of a window, whose rows are shuffled together."""


class Place(NamedTuple):
    """A shard, and rows in it in the order of the samples."""

    shard: int
    rows: NDArray[np.int64]


class SampleOrder:
    """Maps sample numbers, which are counted over all epochs, to rows.

    Args:
        shard_rows: rows of each shard.
        group_rows: rows of a row group; the last group of a shard may have fewer.
        seed: determines the order.
    """

    def __init__(self, shard_rows: list[int], group_rows: int, seed: int) -> None:
        self._shard_rows, self._group_rows, self._seed = np.array(shard_rows), group_rows, seed
        self.size = int(self._shard_rows.sum())
        self._shards = lru_cache(maxsize=2)(self._permute_shards)
        self._rows = lru_cache(maxsize=4)(self._permute_rows)

    def places(self, first: int, count: int) -> list[Place]:
        """Places of the `count` samples from number `first` on; one entry per shard and epoch."""
        places = []
        while count:
            epoch, offset = divmod(first, self.size)
            shards, starts = self._shards(epoch)
            turn = int(np.searchsorted(starts, offset, side="right")) - 1
            offset -= int(starts[turn])
            rows = self._rows(epoch, int(shards[turn]))[offset : offset + count]
            places.append(Place(int(shards[turn]), rows))
            first, count = first + len(rows), count - len(rows)
        return places

    def shard_after(self, sample: int) -> int:
        """The shard that is read after the shard of `sample`."""
        epoch, offset = divmod(sample, self.size)
        shards, starts = self._shards(epoch)
        turn = int(np.searchsorted(starts, offset, side="right"))
        return int(shards[turn] if turn < len(shards) else self._shards(epoch + 1)[0][0])

    def _permute_shards(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Shards in the order of `epoch`, and the samples of the epoch before each."""
        filled = np.flatnonzero(self._shard_rows)
        shards = np.random.default_rng([self._seed, epoch]).permutation(filled)
        return shards, np.cumsum(self._shard_rows[shards]) - self._shard_rows[shards]

    def _permute_rows(self, epoch: int, shard: int) -> NDArray[np.int64]:
        random = np.random.default_rng([self._seed, epoch, shard])
        rows = np.arange(self._shard_rows[shard])
        cuts = np.arange(self._group_rows, len(rows), self._group_rows)
        groups = np.split(rows, cuts)
        order = np.concatenate([groups[group] for group in random.permutation(len(groups))])
        window = WINDOW_GROUPS * self._group_rows
        for start in range(0, len(order), window):
            random.shuffle(order[start : start + window])
        return order

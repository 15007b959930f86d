"""Sets of arrays that do not fit into memory, or are cheaper to read again than to keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

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

        def mapped(part: Part) -> Part:
            return lambda: function(part())

        return Stream(self._size, [mapped(part) for part in self.parts])

    def head(self, count: int) -> np.ndarray:
        """The first `count` items, or all if there are fewer, in one array."""
        return np.concatenate(list(self.first(count)))

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

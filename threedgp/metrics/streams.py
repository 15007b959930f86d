"""Sets of arrays that are too large for memory, or cheaper to make again than to keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

Part = Callable[[], np.ndarray]
"""Makes a batch, the same one every time."""


class Stream:
    """`size` items in batches, made anew every time somebody asks."""

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
        batches: list[np.ndarray] = []
        for batch in self:
            batches.append(batch[: count - sum(map(len, batches))])
            if sum(map(len, batches)) == count:
                break
        return np.concatenate(batches)


def chunks(count: int, size: int) -> list[tuple[int, int]]:
    """Starts and ends of the pieces of at most `size` items into which `count` items fall."""
    return [(start, min(start + size, count)) for start in range(0, count, size)]

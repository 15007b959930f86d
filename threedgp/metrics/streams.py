"""Sets of arrays that are too large for memory, or cheaper to make again than to keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np


class Stream:
    """`size` items in batches, made anew every time somebody iterates."""

    def __init__(self, size: int, make: Callable[[], Iterable[np.ndarray]]) -> None:
        self._size, self._make = size, make

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self._make())

    def map(self, function: Callable[[np.ndarray], np.ndarray]) -> Stream:
        """The batches after `function`, which must keep the number of items."""
        return Stream(self._size, lambda: (function(batch) for batch in self))

    def in_batches(self, size: int) -> Iterator[np.ndarray]:
        """Batches of at most `size` items."""
        for batch in self:
            for start in range(0, len(batch), size):
                yield batch[start : start + size]

    def head(self, count: int) -> np.ndarray:
        """The first `count` items, or all if there are fewer, in one array."""
        parts: list[np.ndarray] = []
        for batch in self:
            parts.append(batch[: count - sum(map(len, parts))])
            if sum(map(len, parts)) == count:
                break
        return np.concatenate(parts)

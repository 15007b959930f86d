"""Streams start anew and keep order and number."""

from __future__ import annotations

import numpy as np

from threedgp.metrics.streams import Stream

NUMBERS = Stream(7, lambda: (np.arange(start, min(start + 3, 7)) for start in range(0, 7, 3)))


def test_starts_anew():
    for _ in range(2):
        assert np.concatenate(list(NUMBERS)).tolist() == list(range(7))
    assert len(NUMBERS) == 7


def test_map_and_batches():
    doubled = NUMBERS.map(lambda batch: 2 * batch)
    assert [batch.tolist() for batch in doubled.in_batches(2)] == [[0, 2], [4], [6, 8], [10], [12]]
    assert len(doubled) == 7


def test_head():
    assert NUMBERS.head(4).tolist() == [0, 1, 2, 3]
    assert NUMBERS.head(3).tolist() == [0, 1, 2]
    assert NUMBERS.head(9).tolist() == list(range(7))

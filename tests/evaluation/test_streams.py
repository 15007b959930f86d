"""Streams can be iterated repeatedly and keep order and number."""

from __future__ import annotations

from functools import partial

import numpy as np

from threedgp.evaluation.streams import Stream, chunks

NUMBERS = Stream(7, [partial(np.arange, start, end) for start, end in chunks(7, 3)])


def test_every_iteration_starts_again():
    for _ in range(2):
        assert np.concatenate(list(NUMBERS)).tolist() == list(range(7))
    assert len(NUMBERS) == 7


def test_map_keeps_the_parts():
    assert [part().tolist() for part in NUMBERS.parts] == [[0, 1, 2], [3, 4, 5], [6]]
    doubled = NUMBERS.map(lambda batch: 2 * batch)
    assert doubled.parts[1]().tolist() == [6, 8, 10]
    assert len(doubled) == 7


def test_head():
    assert NUMBERS.head(4).tolist() == [0, 1, 2, 3]
    assert NUMBERS.head(3).tolist() == [0, 1, 2]
    assert NUMBERS.head(9).tolist() == list(range(7))


def test_spread_repeats_nothing():
    assert NUMBERS.spread(3).tolist() == [0, 3, 6]
    assert NUMBERS.spread(5).tolist() == [0, 2, 3, 6]  # the last batch has one item
    assert len(np.unique(NUMBERS.spread(9))) == len(NUMBERS.spread(9)) == 6


def test_chunks():
    assert chunks(7, 3) == [(0, 3), (3, 6), (6, 7)]
    assert chunks(0, 3) == []

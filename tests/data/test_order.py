"""The order of training samples: complete, seeded, windowed, and cheap however large the set is."""

from __future__ import annotations

import time

import numpy as np
import pytest

from threedgp.data.order import WINDOW_GROUPS, SampleOrder


def rows_of(order: SampleOrder, shard_rows: list[int], first: int, count: int) -> list[int]:
    """Samples as numbers of rows in the whole set."""
    starts = np.cumsum([0, *shard_rows])
    return [int(starts[shard] + row) for shard, rows in order.places(first, count) for row in rows]


@pytest.mark.parametrize("shard_rows", [[50], [7, 1, 33], [64, 0, 64, 10], [1]])
def test_each_epoch_shows_every_row_once(shard_rows: list[int]) -> None:
    order, size = SampleOrder(shard_rows, 4, 3), sum(shard_rows)
    epochs = [rows_of(order, shard_rows, epoch * size, size) for epoch in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(size))
    if size > 10:
        assert epochs[0] != epochs[1] != epochs[2]


def test_any_cut_gives_the_same_order() -> None:
    shard_rows = [37, 20, 5]
    whole = rows_of(SampleOrder(shard_rows, 4, 0), shard_rows, 0, 200)
    random = np.random.default_rng(0)
    for _ in range(20):
        first, count = int(random.integers(150)), int(random.integers(1, 50))
        assert rows_of(SampleOrder(shard_rows, 4, 0), shard_rows, first, count) == whole[first : first + count]


def test_shard_after() -> None:
    shard_rows = [37, 0, 20, 5]
    order = SampleOrder(shard_rows, 4, 0)
    in_turn = [place.shard for place in order.places(0, 200)]
    for sample in range(150):
        now = len(order.places(0, sample + 1)) - 1
        assert order.shard_after(sample) == in_turn[now + 1]


def test_seed_decides() -> None:
    one, other = (rows_of(SampleOrder([100], 4, seed), [100], 0, 100) for seed in (0, 1))
    assert one != other


def test_each_epoch_and_seed_has_an_order_of_shards_of_its_own() -> None:
    turns = [
        tuple(place.shard for place in SampleOrder([4] * 20, 4, seed).places(first, 80))
        for seed, first in ((0, 0), (0, 80), (1, 0))
    ]
    assert len(set(turns)) == 3 and {tuple(sorted(turn)) for turn in turns} == {tuple(range(20))}


def test_a_stretch_touches_few_row_groups() -> None:
    order = SampleOrder([4096] * 5, 32, 0)
    for first in range(0, 4096, 256):
        ((_, rows),) = order.places(first, 256)
        assert len(np.unique(rows // 32)) <= WINDOW_GROUPS


def test_rows_are_mixed() -> None:
    places = np.array(rows_of(SampleOrder([4096], 32, 0), [4096], 0, 4096))
    assert abs(np.corrcoef(places, np.arange(4096))[0, 1]) < 0.1
    assert (np.diff(places) == 1).mean() < 0.02


def test_cost_does_not_grow_with_the_set() -> None:
    shard_rows = [4400] * 300  # 1.32 million
    start = time.perf_counter()
    order = SampleOrder(shard_rows, 32, 0)
    for first in (0, 123_456_789, 10**12):
        order.places(first, 64)
    assert time.perf_counter() - start < 5  # walking through the rows would take minutes; measured: 3 ms

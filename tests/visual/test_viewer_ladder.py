"""Drafts are as large as the machine's speed allows, and lead up to the picture that was asked for."""

from __future__ import annotations

from itertools import pairwise

import pytest

from threedgp.visual.viewer_ladder import DRAFT_SECONDS, PIECE_SECONDS, SMALLEST, Ladder


def ladder(seconds_per_ray: float) -> Ladder:
    made = Ladder()
    made.measured(1000, 1000 * seconds_per_ray)
    return made


@pytest.mark.parametrize("size", [8, 16, 100, 512, 777])
@pytest.mark.parametrize("seconds_per_ray", [1e-9, 1e-6, 1e-4, 1e-1])
def test_rungs(size, seconds_per_ray):
    rungs = ladder(seconds_per_ray).rungs(size)
    assert rungs[-1] == size
    assert rungs == sorted(set(rungs))
    assert all(low == high // 2 for low, high in pairwise(rungs))
    first = rungs[0]
    assert first == size or first >= SMALLEST
    assert first**2 * seconds_per_ray <= DRAFT_SECONDS or first < 2 * SMALLEST
    if len(rungs) > 1:
        assert rungs[1] ** 2 * seconds_per_ray > DRAFT_SECONDS, "no draft where there is time for more"


def test_a_fast_machine_needs_no_draft():
    assert ladder(1e-8).rungs(512) == [512]


def test_speed_follows_what_is_measured():
    made = ladder(1e-3)
    for _ in range(20):
        made.measured(100, 100 * 1e-5)
    assert made.seconds_per_ray == pytest.approx(1e-5, rel=1e-3)
    assert made.piece() == pytest.approx(PIECE_SECONDS / 1e-5, rel=0.01)
    assert ladder(10.0).piece() == SMALLEST**2

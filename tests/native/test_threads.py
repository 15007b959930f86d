"""Sharing out compiled work."""

from __future__ import annotations

import threading

import pytest
import torch

from threedgp.native import threads
from threedgp.native.threads import share


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("openmp", [True, False])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
def test_each_piece_is_done_once(two_threads: None, count: int, openmp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not openmp:
        monkeypatch.setattr(threads, "_parallel", lambda: None)
    done = []
    share(done.append, count)
    assert sorted(done) == list(range(count))


def test_pieces_run_at_the_same_time(two_threads: None) -> None:
    if threads._parallel() is None:
        pytest.skip("PyTorch is not linked to GNU's OpenMP here")
    meet = threading.Barrier(2, timeout=60)  # passed only by two that wait at once
    share(lambda _: meet.wait(), 2)


def test_a_failure_comes_out_where_the_work_was_shared(two_threads: None) -> None:
    def fail(number: int) -> None:
        if number == 5:
            raise ValueError("five")

    with pytest.raises(ValueError, match="five"):
        share(fail, 10)
